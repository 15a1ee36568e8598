"""Strict reading of a checkpoint's JSON configs: every complaint names the key's full path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import CheckpointError


class Section:
    """One JSON object of a config."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self._values, self._path = values, path

    def get(self, key: str, kind: type | tuple[type, ...] = int) -> Any:
        """The value of a required key.

        Raises CheckpointError when it is missing or of another type.
        """
        if key not in self._values:
            raise CheckpointError(f"{self._path}.{key} is missing")
        value = self._values[key]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise CheckpointError(f"{self._path}.{key} has an unexpected value: {value!r}")
        return value

    def size(self, key: str) -> int:
        """The value of a required key that counts something."""
        value: int = self.get(key)
        if value < 1:
            raise CheckpointError(f"{self._path}.{key} must be at least 1, got {value}")
        return value

    def ids(self, key: str) -> dict[str, int]:
        """A required table of names and ids; names in lower case, null counts as empty."""
        table = self.mapping(key)
        for name, value in table.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise CheckpointError(f"{self._path}.{key}.{name} must be an id, got {value!r}")
        return {name.lower(): value for name, value in table.items()}

    def get_or(self, key: str, default: Any) -> Any:
        """The value of a key that may be absent, of its default's type."""
        return self.get(key, type(default)) if key in self._values else default

    def number_or(self, key: str, default: float) -> float:
        """The value of a numeric key that may be absent, as a float."""
        return self.number(key) if key in self._values else default

    def number(self, key: str) -> float:
        """The value of a required numeric key, as a float."""
        return float(self.get(key, (int, float)))

    def section(self, key: str) -> Section:
        """A required nested object."""
        return Section(self.get(key, dict), f"{self._path}.{key}")

    def mapping(self, key: str) -> dict[str, Any]:
        """A required object used as a table; null counts as empty, as upstream writes it for some types."""
        return {} if self._values.get(key) is None else dict(self.get(key, dict))

    def one_of(self, key: str, *allowed: Any) -> Any:
        """The value of a required key that must be one of those this engine implements."""
        value = self._values.get(key)
        if value not in allowed:
            known = " or ".join(repr(item) for item in allowed)
            raise CheckpointError(f"{self._path}.{key} is {value!r}; this engine knows {known}")
        return value

    def refuse_elements_other_than(self, key: str, allowed: Any) -> None:
        """Check a list that may be absent: all its elements must be the one value this engine implements."""
        elements = self._values.get(key) or []
        for element in elements if isinstance(elements, list) else [elements]:
            if element != allowed:
                raise CheckpointError(f"{self._path}.{key} has {element!r}; this engine knows {allowed!r}")

    def refuse_other_than(self, key: str, allowed: Any) -> None:
        """Check a key that may be absent: when there, it must have the one value this engine implements."""
        if key in self._values:
            self.one_of(key, allowed)
