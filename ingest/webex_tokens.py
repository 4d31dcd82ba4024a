"""Whether a token was issued by Webex for the data source that this gateway is registered as."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import jwt

from callscope.access import Access, Grant
from callscope.clock import monotonic
from callscope.config import Webex
from callscope.errors import KeysUnavailable, Unauthorized
from ingest import telemetry

KEYS_PATH: Final = "/oauth2/v2/keys/verificationjwk"
URL_CLAIM: Final = "com.cisco.datasource.url"
SCHEMA_CLAIM: Final = "com.cisco.datasource.schema.uuid"
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
"""Signatures by a private key only: with a symmetric one, whoever can check a token could make one."""
REQUIRED_CLAIMS: Final = ("iss", "exp", "aud", "sub", "jti", URL_CLAIM, SCHEMA_CLAIM)

_KEYS_KEPT_S: Final = 3_600
_FETCH_TIMEOUT_S: Final = 5
_RETRY_S: Final = 60.0
_LEEWAY_S: Final = 5


class WebexTokens:
    """Checks tokens as Webex's guide asks: issuer, signature, expiry, and that they were made for this data source.

    Args:
        settings: the data source. Without its address ordinary bearer tokens are asked for instead.
        access: those.
    """

    def __init__(self, settings: Webex, access: Access) -> None:
        self._settings = settings
        self._access = access
        self._keys: dict[str, tuple[jwt.PyJWK, ...]] = {}
        self._fetched_at: dict[str, float] = {}

    async def grant(self, token: str | None) -> Grant:
        """What the bearer of a token may do.

        Raises:
            Unauthorized: it is none, or not good.
            Forbidden: an ordinary token that does not allow to publish.
            KeysUnavailable: its issuer's keys cannot be fetched now.
        """
        if not self._settings.datasource_url:
            return self._access.grant(token, "publish")
        if not token:
            raise Unauthorized("A token of the data source is needed in the metadata: 'authorization: Bearer …'.")
        await self._check(token)
        return Grant(self._settings.tenant, frozenset({"publish"}), "webex")

    async def _check(self, token: str) -> None:
        try:
            # The issuer is only looked up in the list here; what the token says is believed once its signature is good.
            claims = jwt.decode(token, options={"verify_signature": False})
            issuer = claims.get("iss")
            if issuer not in self._settings.issuers:
                raise Unauthorized("The token's issuer is not one of ingest.webex.issuers.")
            key = await asyncio.to_thread(self._key_of, issuer, token)
            checked = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                issuer=issuer,
                leeway=_LEEWAY_S,
                options={"require": list(REQUIRED_CLAIMS), "verify_aud": False},
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(f"The token is not good: {error}.") from error
        self._check_binding(checked)

    def _check_binding(self, claims: dict[str, Any]) -> None:
        for claim, wanted in (
            (URL_CLAIM, self._settings.datasource_url),
            (SCHEMA_CLAIM, self._settings.schema_uuid),
        ):
            if claims[claim] != wanted:
                raise Unauthorized(f"The token was made for another data source: its {claim} is not {wanted}.")

    def _key_of(self, issuer: str, token: str) -> Any:
        """The key that signed the token, from its issuer's set; blocks while that is fetched.

        It is fetched once an hour, and before that only for a key it does not hold, at most once a minute: a stranger
        who makes up key names cannot make us ask more often.
        """
        key_id = jwt.get_unverified_header(token).get("kid")
        keys = self._keys.get(issuer)
        age_s = monotonic() - self._fetched_at.get(issuer, -_KEYS_KEPT_S)
        if age_s >= _KEYS_KEPT_S or (age_s >= _RETRY_S and not _named(keys or (), key_id)):
            self._fetched_at[issuer] = monotonic()
            try:
                client = jwt.PyJWKClient(issuer + KEYS_PATH, cache_jwk_set=False, timeout=_FETCH_TIMEOUT_S)
                keys = self._keys[issuer] = tuple(client.get_signing_keys())
            except jwt.PyJWKClientError as error:
                telemetry.keys_not_fetched(issuer, str(error))
        if keys is None:
            raise KeysUnavailable(f"The keys of {issuer} cannot be fetched now. Try again in a minute.")
        found = _named(keys, key_id)
        if found is None:
            raise Unauthorized("The token is signed with a key that its issuer does not have.")
        return found.key


def _named(keys: tuple[jwt.PyJWK, ...], key_id: object) -> jwt.PyJWK | None:
    return next((key for key in keys if key.key_id == key_id), None)
