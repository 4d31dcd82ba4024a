"""Tokens as Webex issues them: signed by an issuer on the list, for this data source, and still good."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from callscope.access import Access
from callscope.clock import wall_ns
from callscope.config import Access as AccessSettings
from callscope.config import Webex
from callscope.errors import KeysUnavailable, Unauthorized
from ingest.webex_tokens import KEYS_PATH, SCHEMA_CLAIM, URL_CLAIM, WebexTokens

URL = "https://calls.example.com:443"
KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
STRANGER = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


class Issuer:
    """An identity broker: serves the public key, and counts how often it is asked."""

    def __init__(self) -> None:
        keys = {
            "keys": [{**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "k1", "use": "sig"}]
        }
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = json.dumps(keys).encode()
                self.send_response(200 if self.path == f"/idb{KEYS_PATH}" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"http://127.0.0.1:{self.server.server_address[1]}/idb"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    served = Issuer()
    yield served
    served.close()


def tokens_of(issuer: str) -> WebexTokens:
    settings = Webex(datasource_url=URL, issuers=(issuer,), tenant="acme")
    return WebexTokens(settings, Access(AccessSettings()))


def token(issuer: str, key: Any = KEY, algorithm: str = "RS256", kid: str = "k1", **changes: object) -> str:
    claims = {
        "iss": issuer,
        "exp": wall_ns() // 1_000_000_000 + 600,
        "aud": "BYODS",
        "sub": "callAudioData",
        "jti": "1",
        URL_CLAIM: URL,
        SCHEMA_CLAIM: Webex().schema_uuid,
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid})


async def test_a_good_token(issuer: Issuer) -> None:
    tokens = tokens_of(issuer.name)
    for _ in range(3):
        grant = await tokens.grant(token(issuer.name))
        assert grant.tenant == "acme" and grant.scopes == frozenset({"publish"})
    assert issuer.asked == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"key": STRANGER},
        {"kid": "unknown"},
        {"exp": 1_000_000_000},
        {"aud": None},
        {"sub": None},
        {"jti": None},
        {URL_CLAIM: "https://other.example.com"},
        {SCHEMA_CLAIM: "5397013b-7920-4ffc-807c-e8a3e0a18f43"},
        {"key": "a secret that is long enough for it", "algorithm": "HS256"},
        {"key": None, "algorithm": "none"},
    ],
)
async def test_a_token_that_is_not_good(issuer: Issuer, changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        await tokens_of(issuer.name).grant(token(issuer.name, **changes))


@pytest.mark.parametrize("sent", [None, "", "no token", "a.b.c"])
async def test_what_is_no_token(issuer: Issuer, sent: str | None) -> None:
    with pytest.raises(Unauthorized):
        await tokens_of(issuer.name).grant(sent)


async def test_keys_are_fetched_from_the_list_only(issuer: Issuer) -> None:
    """The token names the address that keys would be fetched from: a stranger must not choose it."""
    with pytest.raises(Unauthorized, match="issuers"):
        await tokens_of("https://idbroker.webex.com/idb").grant(token(issuer.name))
    assert issuer.asked == 0


async def test_made_up_key_names_do_not_make_us_ask(issuer: Issuer) -> None:
    tokens = tokens_of(issuer.name)
    for number in range(5):
        with pytest.raises(Unauthorized):
            await tokens.grant(token(issuer.name, kid=f"made up {number}"))
    assert issuer.asked == 1


async def test_an_issuer_that_does_not_answer(issuer: Issuer) -> None:
    name = issuer.name.replace("/idb", "/elsewhere")
    tokens = tokens_of(name)
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await tokens.grant(token(name))
    assert issuer.asked == 1


async def test_without_a_data_source_ordinary_tokens_are_asked_for() -> None:
    grant = await WebexTokens(Webex(), Access(AccessSettings())).grant(None)
    assert "publish" in grant.scopes
