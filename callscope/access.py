"""Who may do what: a token to a grant. Shared by the gateway and the sink."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from urllib.parse import parse_qs, urlsplit

from callscope import config
from callscope.config import Scope
from callscope.errors import Unauthorized
from callscope.grants import ANYONE, Grant
from callscope.signed_tokens import SignedTokens

__all__ = ["ANYONE", "Access", "Grant", "bearer_token"]

_LONGEST_TOKEN: Final = 8_192


class Access:
    """Looks tokens up.

    Args:
        settings: the tokens.

    Raises:
        ConfigError: the key for signed tokens cannot be read.
    """

    def __init__(self, settings: config.Access) -> None:
        self._grants = [(_digest_of(token), Grant(token.tenant, token.scopes, token.name)) for token in settings.tokens]
        self._signed = None if settings.jwt is None else SignedTokens(settings.jwt)

    @property
    def is_open(self) -> bool:
        """Whether nothing is configured, and everybody may do everything."""
        return not self._grants and self._signed is None

    def grant(self, token: str | None, scope: Scope) -> Grant:
        """What the bearer of a token may do, if `scope` is among it.

        Args:
            token: as it came, without "Bearer "; None if none came.
            scope: what it is needed for.

        Raises:
            Unauthorized: no token, or not one of ours.
            Forbidden: it is good, but not for `scope`.
        """
        if self.is_open:
            return ANYONE
        if not token:
            raise Unauthorized(
                "A token is needed: send it as 'Authorization: Bearer …', or as ?token=… in the address."
            )
        grant = self._look_up(token)
        if grant is None and self._signed is not None:
            grant = self._signed.grant(token)
        if grant is None:
            raise Unauthorized("This token is not known here.")
        grant.check(scope)
        return grant

    def _look_up(self, token: str) -> Grant | None:
        """All tokens are compared, whichever it is, so that the time it takes tells nothing."""
        digest = hashlib.sha256(token[:_LONGEST_TOKEN].encode(errors="replace")).digest()
        found = None
        for known, grant in self._grants:
            if hmac.compare_digest(known, digest):
                found = grant
        return found


def bearer_token(authorization: str | None, target: str) -> str | None:
    """The token of an HTTP request.

    Args:
        authorization: the Authorization header, None if there is none.
        target: the request's path with its query: browsers cannot set headers on a WebSocket and send `?token=`.
    """
    if authorization is not None:
        scheme, _, token = authorization.strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None
    try:
        found = parse_qs(urlsplit(target).query, max_num_fields=32).get("token")
    except ValueError:  # more fields than anybody needs
        return None
    return found[0] if found else None


def _digest_of(token: config.AccessToken) -> bytes:
    if token.token is not None:
        return hashlib.sha256(token.token.get_secret_value().encode()).digest()
    assert token.sha256 is not None
    return bytes.fromhex(token.sha256)
