"""What somebody may do, once it is known who it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from callscope.config import Scope
from callscope.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do.

    Attributes:
        tenant: whose calls are meant; "" where there is but one.
        scopes: "publish" (send audio), "subscribe" (see results), "admin" (see metrics).
        name: who it is, for logs; never the token.
    """

    tenant: str = ""
    scopes: frozenset[Scope] = frozenset()
    name: str = ""

    def check(self, scope: Scope) -> None:
        """Nothing, if `scope` is granted.

        Raises:
            Forbidden: it is not.
        """
        if scope not in self.scopes:
            raise Forbidden(f"This token does not allow to {_MEANING[scope]}. One with the scope {scope!r} does.")


ANYONE: Final = Grant("", frozenset(get_args(Scope)), "anyone")
"""What everybody may do where nothing is configured: all of it, as the one tenant there is."""
_MEANING: Final = {"publish": "send audio", "subscribe": "see results", "admin": "see metrics"}
