"""Decodes a JSON object and reads its typed fields, and says in one sentence what is wrong with either.

A field that is null counts as absent. It knows no message.
"""

import json
import math
import re
from typing import Any, NoReturn

_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN_CHARS = 40
# Of 64 bits, 20; Python itself refuses thousands, with advice for its programmers.
_MAX_DIGITS = 400


class WrongJson(Exception):
    """The text is no JSON object that can be sent back and spoken."""


class WrongField(Exception):
    """A field is missing or is not what it should be."""


def decoded(raw: str) -> dict[str, Any]:
    """The fields of one JSON object. Raises WrongJson."""
    try:
        fields = json.loads(raw, parse_constant=_refuse_constant, parse_int=_whole_number)
    except RecursionError:
        raise WrongJson("the JSON is nested too deeply") from None
    except ValueError as failure:
        raise WrongJson(f"not valid JSON: {failure}") from None
    if not isinstance(fields, dict):
        raise WrongJson("expected a JSON object")
    # Half of an escaped surrogate pair decodes, but nothing made from it could be sent or spoken.
    if "\\u" in raw and _SURROGATE.search(json.dumps(fields, ensure_ascii=False)):
        raise WrongJson("a string holds half of a surrogate pair")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _whole_number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits, the limit is {_MAX_DIGITS}")
    return int(digits)


def json_type(value: object) -> str:
    """What JSON calls a value."""
    names = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string"} | {
        list: "array",
        dict: "object",
    }
    return names[type(value)]


def shown(value: str) -> str:
    """A client's string as it may stand in a message: quoted, and not long."""
    return ascii(value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "…")


class Fields:
    """One JSON object, or one inside another, whose fields are then named with the outer one's name."""

    def __init__(self, values: dict[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def required(self, name: str, *, limit: int | None = None) -> str:
        """A string that must be there. Raises WrongField, as all methods do."""
        if name not in self._values:
            raise WrongField(f"missing field `{self._prefix}{name}`")
        value = self.string(name, None, limit=limit)
        return value if value is not None else self._wrong(name, "a string")

    def string(self, name: str, default: str | None, *, limit: int | None = None) -> str | None:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self._wrong(name, "a string")
        if limit is not None and not 1 <= len(value) <= limit:
            raise WrongField(f"field `{self._prefix}{name}` must have 1 to {limit} characters, not {len(value)}")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        return value if isinstance(value, bool) else self._wrong(name, "true or false")

    def integer(self, name: str, lowest: int, highest: int) -> int | None:
        value = self._values.get(name)
        if value is None:
            return None
        # JSON does not tell 7 from 7.0.
        whole = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value == int(value))
        if isinstance(value, bool) or not whole:
            self._wrong(name, "a whole number")
        return int(self._between(name, int(value), lowest, highest))

    def number(self, name: str, lowest: float, highest: float) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(name, "a number")
        return float(self._between(name, value, lowest, highest))

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.string(name, None)
        if value is None:
            return default
        if value not in choices:
            expected = ", ".join(f"`{choice}`" for choice in choices)
            raise WrongField(f"field `{self._prefix}{name}` is {shown(value)}, expected one of {expected}")
        return value

    def inner(self, name: str) -> "Fields | None":
        """The object in a field."""
        value = self._values.get(name)
        if value is None:
            return None
        return Fields(value, f"{self._prefix}{name}.") if isinstance(value, dict) else self._wrong(name, "an object")

    def _between(self, name: str, value: float, lowest: float, highest: float) -> float:
        if not lowest <= value <= highest:
            limits = (format(limit, "" if isinstance(limit, int) else "g") for limit in (lowest, highest))
            text = f"field `{self._prefix}{name}` must be from {' to '.join(limits)}"
            raise WrongField(f"{text}, not {value if abs(value) < 1e30 else 'that large'}")
        return value

    def _wrong(self, name: str, expected: str) -> NoReturn:
        raise WrongField(f"field `{self._prefix}{name}` must be {expected}, not {json_type(self._values[name])}")
