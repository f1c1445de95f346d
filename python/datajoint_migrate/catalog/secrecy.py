"""What is secret, said once: words that no repr, record, plan, message or log may show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SHOWN = "…"

# Names of fields whose values are secret: those of connections, of stores of every service, of
# queries in URLs, and whatever looks like one in a store that is not known here.
_SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|credential|conn(ection)?_?str(ing)?|(access|account|api|private|"
    r"shared|storage)_?(key|signature)|(^|_)(pass|pw|pwd|tokens?|key|keys|creds|sas|sig|signature|"
    r"auth|authorization|cookie|dsn)(_|$)|token$"
)
_HARMLESS = {
    "token_length", "ssl_key", "server_public_key_path", "get_server_public_key",
}  # fmt: skip
# user:password@ of a URL, and secrets in its query or in a connection string.
_USERINFO = re.compile(r"(://[^/?#\s\"'@:]*):[^\s\"'#]*@")
_PART = re.compile(r"(?P<name>[A-Za-z][\w.%-]*)=(?P<value>[^&;\s\"'#]+)")


class Secret(str):
    """A word that is the word to whoever uses it, and `…` to whoever shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(SHOWN)

    def __str__(self) -> str:
        return SHOWN

    def __format__(self, _: str) -> str:
        return SHOWN


def reveal(value: Any) -> str:
    """The word itself, for whom it is meant; of anything else its text."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def is_secret(name: object) -> bool:
    """Whether what stands under this name is secret."""
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name)).lower().replace("-", "_")
    return plain not in _HARMLESS and bool(_SECRET.search(plain))


def holds_secret(value: Any) -> bool:
    """Whether there is a secret in a value: a URL with a password, or a field of it by its name."""
    if isinstance(value, Mapping):
        return any(is_secret(name) or holds_secret(one) for name, one in value.items())
    if isinstance(value, list | tuple):
        return any(map(holds_secret, value))
    return isinstance(value, Secret) or (isinstance(value, str) and masked(value) != value)


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields, those that are secret as `Secret`s."""
    return {name: _sealed(value, is_secret(name)) for name, value in fields.items()}


def _sealed(value: Any, secret: bool) -> Any:
    if isinstance(value, Mapping):
        return {name: _sealed(one, secret or is_secret(name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_sealed(one, secret) for one in value]
    secret = secret or holds_secret(value)
    return Secret(value) if secret and type(value) is str else value


def shown(value: Any) -> Any:
    """The same value, to be written or printed: no `Secret` in it."""
    if isinstance(value, Mapping):
        return {name: shown(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    if isinstance(value, str):
        return SHOWN if isinstance(value, Secret) else masked(value)
    return value


def masked(text: str) -> str:
    """A text without the passwords of the URLs in it."""
    if "://" not in text and "=" not in text:
        return text
    return _PART.sub(_part, _USERINFO.sub(rf"\1:{SHOWN}@", text))


def _part(found: re.Match[str]) -> str:
    before = found.string[: found.start()][-1:]
    # Only where a query or a connection string may be: elsewhere it is anybody's text.
    if before in ("?", "&", ";", "") and is_secret(found["name"]):
        return f"{found['name']}={SHOWN}"
    return found[0]


def url_has_secret(url: str) -> bool:
    """Whether a URL says a password, as its user's or in its query."""
    try:
        parts = urlsplit(url)
        if parts.password is not None or "@" in parts.path + parts.query + parts.fragment:
            return True
        return any(is_secret(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        return True
