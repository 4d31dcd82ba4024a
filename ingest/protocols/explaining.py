"""What a client wrote, and what is wrong with it, in one printable line."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

_CHARACTERS: Final = 500
_PROBLEMS: Final = 5


def printable(text: str) -> str:
    """One line for a log or a screen, at most 500 characters: what a client wrote may hold anything."""
    shown = "".join(c if c.isprintable() else " " for c in text[: _CHARACTERS + 1])
    return shown if len(shown) <= _CHARACTERS else shown[: _CHARACTERS - 1] + "…"


def explained(error: ValidationError) -> str:
    """The first five things that are wrong with a message, each with the field it is about."""
    return "; ".join(
        f"{'.'.join(str(part)[:64] for part in e['loc'])}: {e['msg']}" if e["loc"] else e["msg"]
        for e in error.errors(include_input=False, include_url=False)[:_PROBLEMS]
    )
