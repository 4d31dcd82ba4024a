import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from callscope.client.recording import Recording
from callscope.client.sending import SendRefused
from callscope.client.twilio_messages import VENDORS, Codec, Messages, encoded
from callscope.config import Ingest, Twilio, load
from callscope.errors import ConfigError
from callscope.simulate.twilio import Stream, send, signed
from ingest.audio.g711 import MU_LAW
from ingest.gateways.twilio import public_url
from ingest.intake import Intake
from ingest.protocols.twilio_signature import twilio_signature
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.recording import RecordingPublisher
from tests.ingest.serving import serving

SECRET = "12345678901234567890123456789012"
TOKEN = "a-token-of-sixteen-or-more"
PUBLIC = "wss://callscope.example.com/ingest/twilio"
ACCOUNT = {"name": "main", "secret": SECRET, "tenant": "acme"}
CALL = "CA5a1ebd8dcc0ff4c2a2ea3fcbbdf3a1c4"


class Gateway:
    """A gateway on a free port that publishes into a list."""

    def __init__(self, url: str, publisher: RecordingPublisher, intake: Intake) -> None:
        self.url = url
        self.publisher = publisher
        self.intake = intake

    async def idle(self) -> None:
        """Wait until no stream is open."""
        await until(lambda: not self.intake.open_streams)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  # what is watched knows of no event
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(
    twilio: Mapping[str, Any] | None = None, tokens: list[dict[str, Any]] | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    async with serving({"tokens": tokens or []}, twilio=twilio or {}, **settings) as served:
        yield Gateway(f"ws://127.0.0.1:{served.port}/twilio", served.publisher, served.gate.intake)


def tone(seconds: float, rate_hz: int, channels: int = 2) -> Recording:
    n = np.arange(round(seconds * rate_hz))
    pcm = np.stack([6_000 * np.sin(2 * np.pi * (300 + 200 * c) * n / rate_hz) for c in range(channels)], axis=1)
    return Recording("tone", pcm.astype(np.int16), rate_hz)


def stream(vendor: str = "twilio", codec: Codec = "mulaw", **changes: Any) -> Stream:
    return Stream(vendor, codec, **{"call": CALL, "parameters": {"queue": "billing"}, **changes})


def peer(tracks: tuple[str, ...] = ("inbound", "outbound"), **changes: Any) -> Messages:
    return Messages("twilio", CALL, tracks, "mulaw", 8_000, **changes)


async def closed(client: ClientConnection) -> tuple[int, str]:
    """The code and reason the gateway closes with."""
    async with asyncio.timeout(10):
        try:
            while True:
                assert await client.recv() is None, "the gateway sends nothing"
        except ConnectionClosed as error:
            assert error.rcvd is not None, "closed without a close frame"
            return error.rcvd.code, error.rcvd.reason


def counter(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_call_from_each_platform(vendor: str) -> None:
    codec: Codec = "l16" if vendor == "exotel" else "mulaw"
    legs = ["customer"] if vendor == "exotel" else ["customer", "agent"]
    async with running() as gateway:
        await send(stream(vendor, codec, keys=(0.1,)), tone(0.5, 8_000), gateway.url, {}, speed=0)
        await gateway.idle()
        told = gateway.publisher.told()
        assert told[:2] == [("CALL_STARTED", ""), ("STREAM_STARTED", "customer")]
        assert sorted(told[-1 - len(legs) :]) == sorted([("STREAM_ENDED", leg) for leg in legs] + [("CALL_ENDED", "")])
        assert ("DTMF", "customer") in told
        for happening in gateway.publisher.happenings():
            assert happening.source == vendor
            assert happening.kind != CallEvent.GAP
            if happening.kind in (CallEvent.STREAM_ENDED, CallEvent.CALL_ENDED):
                assert (happening.at, happening.reason) == (8_000, "end")
                assert happening.metadata["queue"] == "billing"
        for leg in legs:
            records = gateway.publisher.of(f"{CALL}/{leg}")
            assert [p.record.start for p in records] == [i * 320 for i in range(len(records))]
            assert sum(len(p.record.pcm) for p in records) == 2 * 8_000
            assert [p.record.last for p in records] == [False] * (len(records) - 1) + [True]


async def test_sixteen_khz_audio_is_published_bit_for_bit() -> None:
    recording = tone(1.0, 16_000)
    async with running() as gateway:
        await send(stream("telnyx", "l16"), recording, gateway.url, {}, speed=0)
        await gateway.idle()
        assert np.array_equal(gateway.publisher.pcm(f"{CALL}/customer"), recording.pcm[:, 0])
        assert np.array_equal(gateway.publisher.pcm(f"{CALL}/agent"), recording.pcm[:, 1])


async def test_mu_law_is_decoded_and_at_its_time() -> None:
    recording = tone(1.0, 8_000)
    async with running() as gateway:
        await send(stream(), recording, gateway.url, {}, speed=0)
        await gateway.idle()
        for i, leg in enumerate(("customer", "agent")):
            decoded = MU_LAW[np.frombuffer(encoded("twilio", "mulaw", recording.pcm[:, i]), np.uint8)]
            every_second = gateway.publisher.pcm(f"{CALL}/{leg}")[::2].astype(float)
            error = every_second[100:-100] - decoded[100:-100]  # the ends ring
            assert 10 * np.log10(np.mean(decoded.astype(float) ** 2) / np.mean(error**2)) > 40


async def test_swapped_and_lost_messages() -> None:
    recording = tone(4.0, 16_000)
    late = counter("callscope_ingest_late_chunks_total", source="telnyx")
    async with running() as gateway:
        trouble = stream("telnyx", "l16", lose=0.05, swap=0.1, seed=3)
        await send(trouble, recording, gateway.url, {}, speed=0)
        await gateway.idle()
        for i, leg in enumerate(("customer", "agent")):
            records = gateway.publisher.of(f"{CALL}/{leg}")
            holes = sum(p.record.gap_before for p in records)
            assert holes > 0
            assert all(p.record.gap_before % 320 == 0 for p in records)
            assert records[-1].record.end in range(64_000 - 5 * 320, 64_001), (
                "only what is lost at the very end is unknown"
            )
            for p in records:
                heard = np.frombuffer(p.record.pcm, "<i2")
                assert np.array_equal(heard, recording.pcm[p.record.start : p.record.end, i])
            gaps = [h for h in gateway.publisher.happenings() if h.kind == CallEvent.GAP and h.leg == leg]
            assert sum(h.duration for h in gaps) == holes
            assert {h.reason for h in gaps} == {"lost"}
    assert counter("callscope_ingest_late_chunks_total", source="telnyx") == late


async def test_late_chunks_and_messages_that_need_no_action_are_counted() -> None:
    late = counter("callscope_ingest_late_chunks_total", source="twilio")
    unheeded = counter("callscope_ingest_unheeded_messages_total", source="twilio")
    async with running() as gateway, connect(gateway.url) as client:
        sent = peer(("inbound",))
        for text in sent.opening():
            await client.send(text)
        media = sent.media("inbound", 0, b"\xff" * 160)
        for text in (media, media, sent.mark("x"), *sent.closing()):
            await client.send(text)
        assert await closed(client) == (1000, "")
    assert counter("callscope_ingest_late_chunks_total", source="twilio") == late + 1
    assert counter("callscope_ingest_unheeded_messages_total", source="twilio") == unheeded + 1


async def test_a_second_leg_that_begins_later_has_its_own_place_in_the_call() -> None:
    async with running() as gateway, connect(gateway.url) as client:
        sent = peer()
        for text in sent.opening():
            await client.send(text)
        for at_ms in range(0, 1_000, 20):
            await client.send(sent.media("inbound", at_ms, b"\xff" * 160))
        await client.send(sent.media("outbound", 980, b"\xff" * 160))
        await client.send(sent.closing()[0])
        assert await closed(client) == (1000, "")
        (first, *_) = gateway.publisher.of(f"{CALL}/agent")
        assert (first.record.start, first.record.gap_before) == (980 * 16, 980 * 16)
        (gap,) = [h for h in gateway.publisher.happenings() if h.kind == CallEvent.GAP]
        assert (gap.leg, gap.at, gap.duration) == ("agent", 0, 980 * 16)


async def test_a_digit_is_in_no_record_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as gateway, connect(gateway.url) as client:
        sent = peer(("inbound",))
        for text in (*sent.opening(), sent.dtmf("inbound", "DIGIT"), *sent.closing()):
            await client.send(text)
        assert await closed(client) == (1000, "")
        assert ("DTMF", "customer") in gateway.publisher.told()
        assert "DIGIT" not in repr(gateway.publisher.log) + caplog.text


async def test_a_connection_that_is_lost_ends_its_streams() -> None:
    async with running() as gateway:
        async with connect(gateway.url) as client:
            sent = peer()
            for text in (
                *sent.opening(),
                sent.media("inbound", 0, b"\xff" * 160),
                sent.media("inbound", 20, b"\xff" * 160),
            ):
                await client.send(text)
            await until(lambda: gateway.intake.open_streams == 2)
            client.transport.abort()
        await gateway.idle()
        ends = [h for h in gateway.publisher.happenings() if h.kind == CallEvent.STREAM_ENDED]
        assert {h.leg: h.reason for h in ends} == {"customer": "connection lost", "agent": "connection lost"}


@pytest.mark.parametrize(
    ("messages", "code", "says"),
    [
        (["garbage"], 4400, "not JSON"),
        ([b"\x00"], 1003, "binary"),
        (['{"event":"media","media":{}}'], 1003, "before the start"),
        (['{"event":"start","start":{}}'], 4400, "names no call"),
        ([*peer().opening(), "garbage"], 1003, "not JSON"),
        ([*peer().opening(), peer().opening()[1]], 1003, "second start"),
        ([*peer().opening(), '{"event":"media","media":{"track":"inbound","payload":"!"}}'], 4415, "base64"),
    ],
)
async def test_what_is_wrong_is_told_and_touches_nobody_else(messages: list[str | bytes], code: int, says: str) -> None:
    before = counter("callscope_ingest_errors_total", code=str(code))
    async with running() as gateway, connect(gateway.url) as healthy:
        other = Messages("twilio", "CA" + "2" * 32, ("inbound",), "mulaw", 8_000)
        for text in other.opening():
            await healthy.send(text)
        await until(lambda: gateway.intake.open_streams == 1)
        async with connect(gateway.url) as client:
            for message in messages:
                await client.send(message)
            got, reason = await closed(client)
        assert got == code
        assert says in reason
        await until(lambda: gateway.intake.open_streams == 1)
        for text in (other.media("inbound", 0, b"\xff" * 160), *other.closing()):
            await healthy.send(text)
        assert await closed(healthy) == (1000, "")
        assert len(gateway.publisher.pcm("CA" + "2" * 32 + "/customer")) == 320
    assert counter("callscope_ingest_errors_total", code=str(code)) == before + 1


async def test_audio_before_an_error_is_published() -> None:
    async with running() as gateway, connect(gateway.url) as client:
        sent = peer(("inbound",))
        for text in (*sent.opening(), sent.media("inbound", 0, b"\xff" * 160), "garbage"):
            await client.send(text)
        assert (await closed(client))[0] == 1003
        await gateway.idle()
        assert len(gateway.publisher.pcm(f"{CALL}/customer")) == 320
        (end,) = [h for h in gateway.publisher.happenings() if h.kind == CallEvent.STREAM_ENDED]
        assert end.reason.startswith("bad message: ")


async def test_a_leg_that_is_being_received_is_refused_and_the_first_goes_on() -> None:
    async with running() as gateway, connect(gateway.url) as first:
        for text in peer(("outbound",)).opening():
            await first.send(text)
        await until(lambda: gateway.intake.open_streams == 1)
        async with connect(gateway.url) as second:
            for text in peer().opening():
                await second.send(text)
            assert (await closed(second))[0] == 4409
        await until(lambda: gateway.intake.open_streams == 1)


async def test_no_start_and_no_audio_time_out() -> None:
    async with running(hello_timeout_s=0.1, idle_timeout_s=0.1) as gateway:
        async with connect(gateway.url) as client:
            code, reason = await closed(client)
            assert (code, "No start message" in reason or "Nothing came" in reason) == (4408, True)
        async with connect(gateway.url) as client:
            for text in peer().opening():
                await client.send(text)
            assert await closed(client) == (4408, "Nothing came for 0.1 s.")
        await gateway.idle()


# Who is let in.


async def test_a_right_signature_lets_in_and_names_the_tenant() -> None:
    async with running({"accounts": [ACCOUNT], "public_url": PUBLIC}) as gateway:
        await send(stream(), tone(0.1, 8_000), gateway.url, signed("twilio", SECRET, PUBLIC), speed=0)
        await gateway.idle()
        assert {h.call_id for h in gateway.publisher.happenings()} == {f"acme~{CALL}"}


async def test_plivos_signature_lets_in() -> None:
    async with running({"accounts": [ACCOUNT], "public_url": PUBLIC}) as gateway:
        await send(stream("plivo"), tone(0.1, 8_000), gateway.url, signed("plivo", SECRET, PUBLIC), speed=0)
        await gateway.idle()
        assert ("STREAM_ENDED", "agent") in gateway.publisher.told()


@pytest.mark.parametrize("secret", ["another-secret", ""])
async def test_a_wrong_signature_is_refused_in_the_handshake(secret: str) -> None:
    before = counter("callscope_ingest_errors_total", code="403")
    async with running({"accounts": [ACCOUNT], "public_url": PUBLIC}) as gateway:
        with pytest.raises(SendRefused, match="HTTP 403"):
            await send(stream(), tone(0.1, 8_000), gateway.url, signed("twilio", secret, PUBLIC), speed=0)
    assert counter("callscope_ingest_errors_total", code="403") == before + 1


async def test_a_wrong_signature_is_refused_even_with_a_token() -> None:
    tokens = [{"name": "t", "token": TOKEN}]
    async with running({"accounts": [ACCOUNT], "public_url": PUBLIC}, tokens) as gateway:
        headers = signed("twilio", "wrong", PUBLIC) | {"Authorization": f"Bearer {TOKEN}"}
        with pytest.raises(SendRefused, match="HTTP 403"):
            await send(stream(), tone(0.1, 8_000), gateway.url, headers, speed=0)


async def test_an_unsigned_stream_is_refused_once_an_account_is_configured() -> None:
    async with running({"accounts": [ACCOUNT], "public_url": PUBLIC}) as gateway:
        with pytest.raises(SendRefused, match=r"not signed.*4401"):
            await send(stream(), tone(0.1, 8_000), gateway.url, {}, speed=0)
        with pytest.raises(SendRefused, match="HTTP 401"):
            await send(stream(), tone(0.1, 8_000), gateway.url, {"Authorization": "Bearer anything"}, speed=0)
        assert gateway.publisher.log == []


async def test_the_host_header_is_not_believed() -> None:
    async with running({"accounts": [ACCOUNT], "public_url": PUBLIC}) as gateway:
        # What an attacker who knows the signature of another address of the account would try.
        other = signed("twilio", SECRET, gateway.url)
        with pytest.raises(SendRefused, match="HTTP 403"):
            await send(stream(), tone(0.1, 8_000), gateway.url, other, speed=0)


async def test_forwarded_headers_are_believed_only_where_told() -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "callscope.example.com"}
    headers = signed("twilio", SECRET, "wss://callscope.example.com/twilio") | forwarded
    async with running({"accounts": [ACCOUNT], "trust_forwarded": True}) as gateway:
        await send(stream(), tone(0.1, 8_000), gateway.url, headers, speed=0)
    async with running({"accounts": [ACCOUNT], "public_url": PUBLIC}) as gateway:
        with pytest.raises(SendRefused, match="HTTP 403"):
            await send(stream(), tone(0.1, 8_000), gateway.url, headers, speed=0)


async def test_a_stream_of_another_account_is_refused() -> None:
    account = {**ACCOUNT, "account": "AC" + "9" * 32}
    async with running({"accounts": [account], "public_url": PUBLIC}) as gateway:
        with pytest.raises(SendRefused, match=r"another account.*4403"):
            await send(stream(), tone(0.1, 8_000), gateway.url, signed("twilio", SECRET, PUBLIC), speed=0)
        right = stream(account="AC" + "9" * 32)
        await send(right, tone(0.1, 8_000), gateway.url, signed("twilio", SECRET, PUBLIC), speed=0)


@pytest.mark.parametrize("way", ["bearer", "basic", "query", "parameter"])
async def test_a_token_lets_in_wherever_the_platform_can_put_it(way: str) -> None:
    async with running(tokens=[{"name": "t", "token": TOKEN, "tenant": "acme"}]) as gateway:

        async def call(token: str) -> None:
            basic = base64.b64encode(f"callscope:{token}".encode()).decode()
            headers = {"bearer": {"Authorization": f"Bearer {token}"}, "basic": {"Authorization": f"Basic {basic}"}}
            url = f"{gateway.url}?token={token}" if way == "query" else gateway.url
            parameters = {"callscopeToken": token} if way == "parameter" else {}
            await send(stream(parameters=parameters), tone(0.1, 8_000), url, headers.get(way, {}), speed=0)

        await call(TOKEN)
        await gateway.idle()
        assert {h.call_id for h in gateway.publisher.happenings()} == {f"acme~{CALL}"}
        assert TOKEN not in repr(gateway.publisher.log)
        with pytest.raises(SendRefused, match=r"401"):
            await call("another-token-of-sixteen")
        with pytest.raises(SendRefused, match=r"401"):
            await call("")


async def test_no_token_at_all_is_refused_at_the_start() -> None:
    async with running(tokens=[{"name": "t", "token": TOKEN}]) as gateway:
        with pytest.raises(SendRefused, match="4401"):
            await send(stream(), tone(0.1, 8_000), gateway.url, {}, speed=0)
        with pytest.raises(InvalidStatus):
            await connect(gateway.url, additional_headers={"Authorization": "Bearer wrong"})
        assert gateway.publisher.log == []


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        ("/twilio", {"x-forwarded-proto": "https", "x-forwarded-host": "a.example"}, "wss://a.example/twilio"),
        ("/twilio?a=1", {"x-forwarded-proto": "wss, http", "x-forwarded-host": "a, b"}, "wss://a/twilio?a=1"),
        ("/twilio", {"x-forwarded-proto": "http", "host": "a:7070"}, "ws://a:7070/twilio"),
        ("/twilio", {"host": "a"}, "wss://a/twilio"),
    ],
)
def test_the_address_by_the_proxys_headers(target: str, headers: dict[str, str], expected: str) -> None:
    assert public_url(Twilio(trust_forwarded=True), target, headers) == expected


def test_the_configured_address_takes_the_requests_query() -> None:
    assert public_url(Twilio(public_url=PUBLIC), "/twilio?a=1", {"host": "x"}) == PUBLIC + "?a=1"
    assert public_url(Twilio(public_url=PUBLIC), "/twilio", {}) == PUBLIC


def test_accounts_need_to_know_the_public_address() -> None:
    with pytest.raises(ConfigError, match="public_url"):
        load(ingest={"twilio": {"accounts": [ACCOUNT]}})
    with pytest.raises(ConfigError, match="public_url"):
        load(ingest={"twilio": {"public_url": "callscope.example.com"}})
    with pytest.raises(ConfigError, match="a leg of its own"):
        load(ingest={"twilio": {"inbound_leg": "agent"}})


def test_a_secret_is_not_shown() -> None:
    settings = Ingest.model_validate({"twilio": {"accounts": [ACCOUNT], "public_url": PUBLIC}})
    assert SECRET not in repr(settings) + json.dumps(settings.model_dump(mode="json"))
    assert settings.twilio.accounts[0].secret.get_secret_value() == SECRET
    assert twilio_signature(SECRET, PUBLIC) == "KXwyviiSUx9Y7pnELObzljUKuBc="
