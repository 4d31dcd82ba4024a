"""What the openings of foreign protocols have in common: names of calls and legs, and what is said of a call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from callscope.errors import BadHello
from callscope.streams import is_name, name_of

HELLO_BYTES: Final = 64 * 1024
"""The longest opening text, UTF-8 bytes."""
METADATA_ENTRIES: Final = 32
_KEY_CHARACTERS: Final = 64
_VALUE_CHARACTERS: Final = 256
SECRETS: Final = frozenset({"token", "authorization", "password"})
"""Fields that are never kept with a call."""
UNKNOWN_LEG: Final = "unknown"
"""The leg where nobody said who speaks; no policy of a model names it, so none runs that is not for everybody."""


def given_name(value: object, what: str) -> str:
    """A name that the operator chose, as it is.

    Args:
        value: what came.
        what: what it names, for the error: "call_id".

    Raises:
        BadHello: it is none.
    """
    if isinstance(value, str) and is_name(value):
        return value
    raise BadHello(
        f"{what} cannot be {str(value)[:64]!r}. It takes 1 to 128 letters, digits and . _ : @ + - (no slash, no tilde)."
    )


def given_legs(value: str, channels: int) -> tuple[str, ...]:
    """The legs of a list such as "customer,agent", one per channel.

    Raises:
        BadHello: they are not as many different names as there are channels.
    """
    legs = tuple(given_name(leg.strip(), "leg") for leg in value.split(","))
    if len(set(legs)) != channels or len(legs) != channels:
        raise BadHello(f"{channels} channel(s) need as many different legs, and {value[:64]!r} is given.")
    return legs


def platform_name(value: object) -> str | None:
    """A name made of what the platform calls the call by itself; None where it says nothing."""
    text = str(value) if isinstance(value, str | int) else ""
    return name_of(text) if text else None


def metadata_of(fields: Mapping[str, object]) -> dict[str, str]:
    """What a platform says of a call, as far as it is short and flat: nothing nested, no secret, at most 32 entries."""
    told = {
        _encodable(key)[:_KEY_CHARACTERS]: _encodable(_text(value))[:_VALUE_CHARACTERS]
        for key, value in fields.items()
        if key and key.lower() not in SECRETS and isinstance(value, str | int | float)
    }
    return dict(list(told.items())[:METADATA_ENTRIES])


def json_object(text: str) -> dict[str, object] | None:
    """The object that a text is in JSON, or None."""
    if len(text.encode(errors="replace")) > HELLO_BYTES:
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _encodable(text: str) -> str:
    """JSON can spell half a surrogate pair, which UTF-8, and so Kafka's records, cannot hold: it becomes "?"."""
    return text.encode(errors="replace").decode()


def _text(value: str | int | float) -> str:
    return value if isinstance(value, str) else json.dumps(value)
