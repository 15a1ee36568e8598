"""Who may come in: the rules about keys, tokens and web pages, in the order in which they are asked.

Pure but for its memory of tokens: what a request says of itself goes in, a caller or a refusal comes out. It knows no
web framework, and what a caller does inside is not its business.
"""

from dataclasses import dataclass
from typing import Self

from frontend.addresses import is_loopback
from frontend.api_keys import ApiKeys, Scope, WrongEntry
from frontend.browser_tokens import BrowserTokens, TooManyTokens
from frontend.origins import Origins, WrongOrigin, is_loopback_name
from frontend.settings import PREFIX, Settings, SettingsError

NO_AUTH = "none"
SUBPROTOCOL = "bearer."


@dataclass(frozen=True)
class Knock:
    """What a request says of itself, as its headers have it."""

    address: str
    host: str = ""
    origin: str | None = None
    authorization: str | None = None
    protocols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Caller:
    """Who is in. `label` is that of the key, None where none is asked for."""

    label: str | None
    scope: Scope
    address: str

    @property
    def account(self) -> str:
        """What limits are counted by: the key's label or, without one, the address."""
        return self.address if self.label is None else self.label

    def may(self, scope: Scope) -> bool:
        """Whether the caller's key includes this scope."""
        order = list(Scope)
        return order.index(self.scope) >= order.index(scope)


class Refusal(Exception):
    """Not in: an HTTP status, a code in the words of the protocol, a sentence, and when to try again if it is known."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class Doors:
    """The rules of one server. Times are of one clock that never goes back."""

    def __init__(self, keys: ApiKeys, origins: Origins, tokens: BrowserTokens, *, only_loopback_names: bool) -> None:
        self._keys = keys
        self._origins = origins
        self._tokens = tokens
        self._only_loopback_names = only_loopback_names

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rules the settings ask for. Raises SettingsError where they contradict or leave the server open."""
        try:
            keys, origins = ApiKeys.parse(settings.api_keys), Origins.parse(settings.origins)
        except WrongEntry as wrong:
            raise SettingsError(f"{PREFIX}API_KEYS: {wrong}") from None
        except WrongOrigin as wrong:
            raise SettingsError(f"{PREFIX}ORIGINS: {wrong}") from None
        said = settings.auth == NO_AUTH
        if said and keys:
            raise SettingsError(f"{PREFIX}AUTH=none contradicts {PREFIX}API_KEYS, which has {len(keys)} keys")
        if not (said or keys or is_loopback(settings.host)):
            raise SettingsError(
                f"{PREFIX}HOST={settings.host} can be reached from outside, and nothing asks who comes: give "
                f"{PREFIX}API_KEYS (scripts/make_api_key makes one), or say {PREFIX}AUTH=none to serve anyone"
            )
        tokens = BrowserTokens(
            settings.token_lifetime_s, settings.max_unused_tokens, settings.max_unused_tokens_per_key
        )
        return cls(keys, origins, tokens, only_loopback_names=not (said or keys))

    @property
    def ask_for_keys(self) -> bool:
        """Whether callers need a key."""
        return len(self._keys) > 0

    def listed(self, origin: str) -> bool:
        """Whether a foreign page was allowed by name."""
        return self._origins.lists(origin)

    def admit(self, knock: Knock, now: float) -> Caller:
        """Who it is. A one-use token is used up. Raises Refusal."""
        self._look_at_the_page(knock)
        if not self.ask_for_keys:
            return Caller(None, Scope.SPEAK, knock.address)
        token = _bearer(knock)
        if token is None:
            raise Refusal(401, "UNAUTHORIZED", "an API key is needed, as `Authorization: Bearer KEY`")
        key = self._keys.find(token)
        if key is not None:
            return Caller(key.label, key.scope, knock.address)
        # Tokens open sockets only: one that could ask for the next would never end.
        good, label = self._tokens.redeem(token, now) if knock.authorization is None else (False, None)
        if not good:
            raise Refusal(401, "UNAUTHORIZED", "the API key or token is not known, or the token was used or is too old")
        return Caller(label, Scope.SPEAK, knock.address)

    def issue_token(self, caller: Caller, now: float) -> tuple[str, float]:
        """A token for one socket of this caller, and its lifetime in seconds. Raises Refusal."""
        try:
            return self._tokens.issue(caller.account, caller.label, now), self._tokens.lifetime_s
        except TooManyTokens as many:
            raise Refusal(429, "TOO_MANY_REQUESTS", str(many), many.retry_after_s) from None

    def _look_at_the_page(self, knock: Knock) -> None:
        if not self._origins.allows(knock.origin, knock.host):
            raise Refusal(403, "FORBIDDEN_ORIGIN", f"pages of {knock.origin!r:.100} may not use this server")
        listed = knock.origin is not None and self.listed(knock.origin)
        # A foreign name that resolves to this machine would make any page on it look like our own.
        if self._only_loopback_names and not listed and not is_loopback_name(knock.host):
            text = f"without keys this server answers only to names of this machine, not to {knock.host!r:.100}"
            raise Refusal(403, "FORBIDDEN_ORIGIN", text)


def _bearer(knock: Knock) -> str | None:
    if knock.authorization is not None:
        scheme, _, token = knock.authorization.strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None
    offered = [name for name in knock.protocols if name.startswith(SUBPROTOCOL)]
    return offered[0].removeprefix(SUBPROTOCOL) if offered else None
