"""Who may open an AudioHook session: the handshake's API key, and its signature where the key has a secret."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from typing import Final

from websockets.http11 import Request

from callscope.access import Grant
from callscope.clock import calendar_ns, monotonic
from callscope.config import AudioHook, AudioHookKey
from callscope.errors import Unauthorized
from ingest.gateways.gate import Gate
from ingest.protocols.http_signature import SignatureVerifier, SignedRequest, is_signed

SESSION_ID: Final = "audiohook-session-id"
ORGANIZATION_ID: Final = "audiohook-organization-id"
_CORRELATION_ID: Final = "audiohook-correlation-id"
_API_KEY: Final = "x-api-key"
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SIGNATURES: Final = SignatureVerifier(
    ["@request-target", ("@authority", "host"), ORGANIZATION_ID, SESSION_ID, _CORRELATION_ID, _API_KEY]
)
"""One for the process, which all its ports share: a signature that one of them took is used."""


async def admit(request: Request, gate: Gate) -> Grant | None:
    """Let a handshake in that bears an API key of ours and is signed as the key demands.

    Without configured AudioHook keys the API key is taken for a bearer token (`callscope.access`). Whatever the reason,
    a refusal takes `refusal_delay_s`, and its answer does not tell an unknown key from a wrong signature.

    Raises:
        Unauthorized: it does not, or lacks the headers that name organization and session.
    """
    started = monotonic()
    settings = gate.settings.ingest.audiohook
    signed = SignedRequest(request.path, list(request.headers.raw_items()), settings.authority)
    try:
        for name in (ORGANIZATION_ID, SESSION_ID):
            if _UUID.fullmatch(signed.header(name) or "") is None:
                raise Unauthorized(f"The handshake's header {name} must be a UUID.")
        if not settings.keys:
            return gate.access.grant(signed.header(_API_KEY), "publish")
        return _grant(signed, settings)
    except Unauthorized:
        await asyncio.sleep(max(0.0, started + settings.refusal_delay_s - monotonic()))
        raise


def _grant(request: SignedRequest, settings: AudioHook) -> Grant:
    api_key = request.header(_API_KEY) or ""
    key = _look_up(api_key, settings)
    secret = _secret_of(key)
    if key is not None and secret is None and not is_signed(request):
        return _granted(key)
    _SIGNATURES.verify(request, api_key, secret, calendar_ns() / 1e9)
    assert key is not None  # without one there is no secret, and no signature is good
    return _granted(key)


def _granted(key: AudioHookKey) -> Grant:
    return Grant(key.tenant, frozenset({"publish"}), "audiohook")


def _look_up(api_key: str, settings: AudioHook) -> AudioHookKey | None:
    """All keys are compared, whichever it is, so that the time it takes tells nothing."""
    wanted = hashlib.sha256(api_key.encode(errors="replace")).digest()
    found = None
    for key in settings.keys:
        if hmac.compare_digest(hashlib.sha256(key.api_key.get_secret_value().encode()).digest(), wanted):
            found = key
    return found


def _secret_of(key: AudioHookKey | None) -> bytes | None:
    if key is None or key.client_secret is None:
        return None
    return base64.b64decode(key.client_secret.get_secret_value())
