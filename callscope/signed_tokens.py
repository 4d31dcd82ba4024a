"""JSON Web Tokens (RFC 7519) as access tokens, by PyJWT."""

from __future__ import annotations

from typing import get_args

import jwt
from pydantic import BaseModel, ConfigDict, ValidationError

from callscope import config
from callscope.clock import calendar_ns
from callscope.config import Scope, Tenant
from callscope.errors import ConfigError, Unauthorized
from callscope.grants import Grant


class AccessClaims(BaseModel):
    """What of a token's claims matters here; `scope` is a string of words (RFC 8693, section 4.2) or a list."""

    model_config = ConfigDict(strict=True)

    tenant: Tenant
    scope: str | list[str]
    sub: str = ""

    @property
    def scopes(self) -> frozenset[Scope]:
        """Those of its scopes that mean something here."""
        words = self.scope.split() if isinstance(self.scope, str) else self.scope
        return frozenset(scope for scope in get_args(Scope) if scope in words)


class SignedTokens:
    """Tokens signed by whoever has the key.

    Args:
        settings: the key, the algorithms and what the claims must be.

    Raises:
        ConfigError: the key cannot be read.
    """

    def __init__(self, settings: config.Jwt) -> None:
        self._settings = settings
        if settings.secret is not None:
            self._key = settings.secret.get_secret_value()
            return
        assert settings.public_key_file is not None, "checked by the settings"
        try:
            self._key = settings.public_key_file.read_text()
            for algorithm in settings.algorithms:
                jwt.get_algorithm_by_name(algorithm).prepare_key(self._key)
        except (OSError, ValueError, TypeError, jwt.InvalidKeyError) as error:
            raise ConfigError(
                f"access.jwt.public_key_file: {settings.public_key_file} is not a PEM public key for "
                f"{', '.join(settings.algorithms)}: {error}"
            ) from error

    def grant(self, token: str) -> Grant:
        """What a token allows.

        Raises:
            Unauthorized: it is not signed by our key with an algorithm of ours, is expired, for somebody else, good for
                too long, or says what cannot be.
        """
        wanted = self._settings
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=list(wanted.algorithms),
                audience=wanted.audience,
                issuer=wanted.issuer,
                leeway=wanted.leeway_s,
                options={"require": ["exp"], "verify_aud": wanted.audience is not None},
            )
            left_s = float(claims["exp"]) - calendar_ns() / 1e9
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized("This token has expired.") from error
        except (jwt.InvalidTokenError, ValueError, OverflowError, RecursionError) as error:
            raise Unauthorized(
                "This is neither a token known here nor one that is signed, and meant, for here."
            ) from error
        if left_s > wanted.longest_s + wanted.leeway_s:
            raise Unauthorized(f"This token is good for longer than {wanted.longest_s:g} s, which is not accepted.")
        try:
            said = AccessClaims.model_validate(claims)
        except ValidationError as error:
            raise Unauthorized("The token's claims do not say what is needed: tenant and scope.") from error
        return Grant(said.tenant, said.scopes, said.sub[:64])
