"""Who may connect: tokens, tenants, origins, limits, TLS."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from callscope.access import Access
from callscope.config import Ingest, Tls, load
from callscope.errors import ConfigError
from callscope.tls import server_context
from ingest.gateways.origins import is_allowed_origin
from ingest.gateways.pace import Pace
from tests.ingest.serving import serving

TOKENS = {
    "tokens": [
        {"name": "a", "token": "token-of-tenant-a", "tenant": "a", "scopes": ["publish"]},
        {"name": "b", "token": "token-of-tenant-b", "tenant": "b", "scopes": ["publish"]},
        {"name": "reader", "token": "token-to-read-only", "tenant": "a", "scopes": ["subscribe"]},
        {"name": "ops", "token": "token-of-operations", "scopes": ["admin"]},
    ]
}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def hello(**changes: Any) -> str:
    usual = {"type": "hello", "call_id": "call", "leg": "customer", "encoding": "s16le", "rate_hz": 16_000}
    return json.dumps({**usual, **changes})


async def take(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(5):
        message: dict[str, Any] = json.loads(await client.recv())
    return message


async def status_of(url: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, **options)
    return int(refused.value.response.status_code)


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), (bearer("no-such-token"), 401), (bearer("token-to-read-only"), 403)]
)
async def test_the_handshake_wants_a_token_to_publish(headers: dict[str, str], status: int) -> None:
    async with serving(TOKENS) as gateway:
        assert await status_of(gateway.url, additional_headers=headers) == status
        assert gateway.publisher.log == []


async def test_two_tenants_may_have_a_call_of_the_same_name() -> None:
    async with (
        serving(TOKENS) as gateway,
        connect(gateway.url, additional_headers=bearer("token-of-tenant-a")) as a,
        connect(gateway.url + "?token=token-of-tenant-b") as b,
    ):
        for client in (a, b):
            await client.send(hello())
            assert (await take(client))["streams"] == ["call/customer"]
        assert {h.call_id for h in gateway.publisher.happenings()} == {"a~call", "b~call"}


async def test_a_session_is_its_tenants_own() -> None:
    async with (
        serving(TOKENS) as gateway,
        connect(gateway.url, additional_headers=bearer("token-of-tenant-a")) as a,
        connect(gateway.url, additional_headers=bearer("token-of-tenant-b")) as b,
    ):
        await a.send(hello(resumable=True))
        session = (await take(a))["session"]
        await b.send(hello(resume=session))
        assert (await take(b))["code"] == "unknown_session"
        await a.send(bytes(640))
        assert (await take(a))["type"] == "ack", "and it was not disturbed"


@pytest.mark.parametrize("changes", [{"leg": "agent"}, {"rate_hz": 8_000}, {"resume": "x"}, {"metadata": {"a": "b"}}])
async def test_a_session_goes_on_as_it_was_announced(changes: dict[str, Any]) -> None:
    async with serving() as gateway, connect(gateway.url) as first, connect(gateway.url) as second:
        await first.send(hello(resumable=True))
        session = (await take(first))["session"]
        await second.send(hello(**{"resume": session, **changes}))
        error = await take(second)
        assert (error["code"], error["close_code"]) == ("unknown_session", 4410)


async def test_metrics_want_an_administrator_and_health_nobody() -> None:
    async with serving(TOKENS) as gateway:
        url = gateway.url.replace("/v1/stream", "/metrics")
        assert await status_of(url) == 401
        assert await status_of(url, additional_headers=bearer("token-of-tenant-a")) == 403
        assert await status_of(url, additional_headers=bearer("token-of-operations")) == 200
        assert await status_of(gateway.url.replace("/v1/stream", "/healthz")) == 200


@pytest.mark.parametrize(
    ("origin", "host", "requested", "may"),
    [
        (None, "0.0.0.0", "gw.example", True),
        ("http://127.0.0.1:7071", "127.0.0.1", "127.0.0.1:7070", True),
        ("http://localhost:7071", "127.0.0.1", "127.0.0.1:7070", True),
        ("https://evil.example", "127.0.0.1", "127.0.0.1:7070", False),
        ("http://evil.example", "127.0.0.1", "evil.example:7070", False),
        ("null", "127.0.0.1", "127.0.0.1", False),
        ("https://gw.example:7071", "0.0.0.0", "gw.example", True),
        ("https://evil.example", "0.0.0.0", "gw.example", False),
        ("https://app.example", "0.0.0.0", "gw.example", True),
        ("file://gw.example", "0.0.0.0", "gw.example", False),
        ("https://gw.example", "0.0.0.0", None, False),
    ],
)
def test_which_pages_may_send(origin: str | None, host: str, requested: str | None, may: bool) -> None:
    assert is_allowed_origin(origin, host=host, origins=("https://app.example",), requested=requested) is may


async def test_a_page_from_elsewhere_is_refused_in_the_handshake() -> None:
    async with serving() as gateway:
        assert await status_of(gateway.url, origin="https://evil.example") == 403
        async with connect(gateway.url, origin="http://localhost:7071"):  # type: ignore[arg-type]  # a NewType of str
            pass


async def test_an_address_has_no_more_connections_than_it_may() -> None:
    async with serving(limits={"connections_per_address": 2}) as gateway:
        async with connect(gateway.url), connect(gateway.url):
            assert await status_of(gateway.url) == 429
        async with asyncio.timeout(5):
            while True:
                try:
                    async with connect(gateway.url):
                        return
                except InvalidStatus:  # the places are free when the handlers have ended
                    await asyncio.sleep(0.01)


async def test_twice_as_many_are_broken_off_before_they_say_anything() -> None:
    async with serving(limits={"connections_per_address": 1}) as gateway:
        held = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(3)]
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                assert await held[-1][0].read() == b""
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.05)
        async with connect(gateway.url):
            pass  # and none of them counts any more


async def test_a_tenant_has_no_more_connections_than_it_may() -> None:
    async with serving(TOKENS, limits={"connections_per_tenant": 1}) as gateway:
        async with connect(gateway.url, additional_headers=bearer("token-of-tenant-a")):
            assert await status_of(gateway.url, additional_headers=bearer("token-of-tenant-a")) == 429
            async with connect(gateway.url, additional_headers=bearer("token-of-tenant-b")):
                pass


async def test_rates_are_kept_by_reading_more_slowly_and_nothing_is_lost() -> None:
    async with serving(limits={"messages_per_s": 50.0}) as gateway, connect(gateway.url) as client:
        await client.send(hello())
        await take(client)
        for _ in range(60):
            await client.send(bytes(640))
        await client.send('{"type":"end"}')
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await take(client)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
        assert len(gateway.publisher.pcm("call/customer")) == 60 * 320


def test_a_pace_waits_for_what_is_more_than_its_burst() -> None:
    pace = Pace(10, burst=5)
    assert pace.delay_s(5, 0.0) == 0
    assert pace.delay_s(1, 0.0) == pytest.approx(0.1)
    assert pace.delay_s(4, 0.5) == 0
    assert pace.delay_s(20, 100.0) == pytest.approx(1.5)


def certificate(folder: Path, name: str) -> Tls:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", *options, *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return Tls(cert_file=cert, key_file=key)


def trusting(tls: Tls) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls.cert_file))


async def test_tls_and_a_renewed_certificate_without_a_restart(tmp_path: Path) -> None:
    tls, renewed = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    assert tls.cert_file and tls.key_file and renewed.cert_file and renewed.key_file
    second = trusting(renewed)
    async with serving(tls=tls) as gateway:
        assert gateway.url.startswith("wss://127.0.0.1:")
        async with connect(gateway.url, ssl=trusting(tls)) as client:
            await client.send(hello())
            assert (await take(client))["type"] == "ready"
            with pytest.raises(ssl.SSLError):
                await connect(gateway.url, ssl=second)
            os.replace(renewed.key_file, tls.key_file)
            os.replace(renewed.cert_file, tls.cert_file)
            await connect_once(gateway.url, second)
            await client.send(bytes(640))
            assert (await take(client))["type"] == "ack", "who was connected stays so"
            tls.cert_file.write_text("broken")
            await connect_once(gateway.url, second)


async def connect_once(url: str, context: ssl.SSLContext) -> None:
    async with connect(url, ssl=context):
        pass


def test_a_certificate_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ingest\.tls: .*a\.pem"):
        server_context(Tls(cert_file=tmp_path / "a.pem", key_file=tmp_path / "a.pem"), "ingest.tls")
    assert server_context(Tls(), "ingest.tls") is None
    with pytest.raises(ConfigError, match="belong together"):
        load(ingest={"tls": {"cert_file": "a.pem"}})
    assert Access(load().access).is_open and Ingest().tls.cert_file is None
