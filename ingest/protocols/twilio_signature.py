"""Signatures on the request that opens a media stream, which prove that it comes from the platform.

Twilio signs the address, as it is written in the TwiML, with the account's auth token: base64 of HMAC-SHA1, in
`X-Twilio-Signature` (https://www.twilio.com/docs/usage/security; SignalWire does the same with its signing key). Plivo
signs address and nonce with HMAC-SHA256, in `X-Plivo-Signature-V3` (plivo-python, plivo/utils/signature_v3.py). Neither
signature expires: whoever has seen one for an address can use it again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

TWILIO: Final = ("x-twilio-signature", "x-signalwire-signature")
PLIVO: Final = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")
PLIVO_NONCE: Final = "x-plivo-signature-v3-nonce"
_DEFAULT_PORTS: Final = {"wss": 443, "https": 443, "ws": 80, "http": 80}


def twilio_signature(secret: str, url: str) -> str:
    """The signature of a request without form fields, as the request for a WebSocket is."""
    return _base64(hmac.digest(secret.encode(), url.encode(), hashlib.sha1))


def plivo_signature(secret: str, url: str, nonce: str) -> str:
    """Version 3 of Plivo's signature of a GET request; the query's names and values are signed in order."""
    scheme, host, path, query, _ = urlsplit(url)
    values = {name: sorted(found) for name, found in parse_qs(query, keep_blank_values=True).items()}
    ordered = "&".join(f"{name}={value}" for name in sorted(values) for value in values[name])
    signed = urlunsplit((scheme, host, path, "", "")) + (f"?{ordered}" if ordered else "")
    return _base64(hmac.digest(secret.encode(), f"{signed}.{nonce}".encode(), hashlib.sha256))


def carries_signature(headers: Mapping[str, str]) -> bool:
    """Whether a request is signed, rightly or not.

    Args:
        headers: of the request; their names compare without regard to case.
    """
    return any(name in headers for name in (*TWILIO, *PLIVO))


def signer(secrets: Iterable[str], url: str, headers: Mapping[str, str]) -> int | None:
    """Which secret the request was signed with: its place among `secrets`, or None.

    Every secret is tried, and compared in constant time, so that the time taken tells nothing.

    Args:
        secrets: auth tokens of the accounts that may send.
        url: the address as it is written on the platform's side, query included.
        headers: of the request; their names compare without regard to case.
    """
    claimed = [headers[name].strip() for name in TWILIO if name in headers]
    claimed_plivo = [one.strip() for name in PLIVO if name in headers for one in headers[name].split(",")]
    nonce = headers.get(PLIVO_NONCE, "")
    found: int | None = None
    for place, secret in enumerate(secrets):
        for form in _forms(url):
            expected = twilio_signature(secret, form)
            expected_plivo = plivo_signature(secret, form, nonce)
            matches = [_same(expected, one) for one in claimed] + [
                _same(expected_plivo, one) for one in claimed_plivo if nonce
            ]
            if any(matches) and found is None:
                found = place
    return found


def _forms(url: str) -> list[str]:
    """The address with its port and without: platforms differ in whether they sign the usual one."""
    scheme, host, *rest = urlsplit(url)
    port = f":{_DEFAULT_PORTS.get(scheme, 443)}"
    bare = host.removesuffix(port)
    hosts = (bare, bare + port) if ":" not in bare.rpartition("]")[2] else (host,)
    return [urlunsplit((scheme, one, *rest)) for one in hosts]


def _same(expected: str, claimed: str) -> bool:
    return hmac.compare_digest(expected.encode(), claimed.encode(errors="replace"))


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
