import asyncio
import json
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callscope.access import Access
from callscope.clock import wall_ns
from callscope.config import Ingest, load
from callscope.errors import NotPublished
from ingest.audio.g711 import A_LAW, MU_LAW
from ingest.delivery import Delivery
from ingest.gateways.gate import Gate
from ingest.gateways.routes import ROUTES
from ingest.gateways.websocket import listen
from ingest.intake import Intake
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.recording import Published, RecordingPublisher

FRAME = bytes(640)
END = json.dumps({"type": "end"})


def hello(**changes: Any) -> str:
    fields = {
        "type": "hello",
        "call_id": "call",
        "leg": "customer",
        "encoding": "s16le",
        "rate_hz": 16_000,
        "channels": 1,
    }
    return json.dumps({name: value for name, value in {**fields, **changes}.items() if value is not ...})


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  # what is watched knows of no event
            await asyncio.sleep(0.002)


class Gateway:
    """A gateway on a free port that publishes into a list."""

    def __init__(self, url: str, publisher: RecordingPublisher, intake: Intake, stop: Callable[[], Any]) -> None:
        self.url = url
        self.publisher = publisher
        self.intake = intake
        self.stop = stop

    def http(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url.replace("ws:", "http:").replace("/v1/stream", path)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def idle(self) -> None:
        """Wait until no stream is open."""
        await until(lambda: not self.intake.open_streams)


@asynccontextmanager
async def running(publisher: RecordingPublisher | None = None, **settings: Any) -> AsyncIterator[Gateway]:
    publisher = publisher or RecordingPublisher()
    ingest = Ingest(port=0, **{"ack_interval_s": 0.02, **settings})
    intake = Intake(publisher, ingest.max_streams, ingest.publish_timeout_s)
    all_settings = load(ingest=ingest)
    listener = await listen(Gate(all_settings, intake, Access(all_settings.access)), ROUTES)
    try:
        yield Gateway(listener.address, publisher, intake, listener.close)
    finally:
        await listener.close()
    assert intake.open_streams == 0


@asynccontextmanager
async def stream(gateway: Gateway, **changes: Any) -> AsyncIterator[ClientConnection]:
    async with connect(gateway.url, compression=None) as client:
        await client.send(hello(**changes))
        assert json.loads(await client.recv())["type"] == "ready"
        yield client


async def until_closed(client: ClientConnection) -> tuple[list[dict[str, Any]], int, str]:
    """What the server still sends, and the code and reason it closes with."""
    messages = []
    async with asyncio.timeout(10):
        try:
            while True:
                messages.append(json.loads(await client.recv()))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "closed without a close frame"
            return messages, closed.rcvd.code, closed.rcvd.reason


def errors_counted(code: int) -> float:
    return REGISTRY.get_sample_value("callscope_ingest_errors_total", {"code": str(code)}) or 0.0


@asynccontextmanager
async def counted(code: int) -> AsyncIterator[None]:
    before = errors_counted(code)
    yield
    assert errors_counted(code) == before + 1


async def test_a_stream_from_hello_to_end() -> None:
    samples = np.arange(16_000, dtype="<i2")
    before_ns = wall_ns()
    async with running() as gateway:
        async with connect(gateway.url) as client:
            await client.send(hello(metadata={"queue": "billing"}))
            assert json.loads(await client.recv()) == {
                "type": "ready",
                "streams": ["call/customer"],
                "ack_interval_s": 0.02,
            }
            data = samples.tobytes()
            for at in range(0, len(data), 640):
                await client.send(data[at : at + 640])
            await client.send(END)
            messages, code, _ = await until_closed(client)
        assert code == 1000
        assert messages[-1] == {
            "type": "ended",
            "streams": {"call/customer": {"published_s": 1.0, "duration_s": 1.0, "padded_s": 0.0}},
        }
        published = gateway.publisher.of("call/customer")
        assert np.array_equal(gateway.publisher.pcm("call/customer"), samples)
        assert [p.record.seq for p in published] == list(range(51))
        assert [p.record.start for p in published] == [320 * n for n in range(51)]
        assert [p.record.last for p in published] == [False] * 50 + [True]
        assert all(before_ns <= p.arrived_ns <= wall_ns() and p.source == "websocket" for p in published)
        assert gateway.publisher.told() == [
            ("CALL_STARTED", ""),
            ("STREAM_STARTED", "customer"),
            ("STREAM_ENDED", "customer"),
            ("CALL_ENDED", ""),
        ]
        log = gateway.publisher.log
        assert log.index(gateway.publisher.happenings()[1]) < log.index(published[0])
        assert log.index(published[-1]) < log.index(gateway.publisher.happenings()[2])
        for happening in gateway.publisher.happenings():
            assert (happening.call_id, happening.source, happening.encoding, happening.rate_hz) == (
                "call",
                "websocket",
                "s16le",
                16_000,
            )
            assert happening.metadata == {"queue": "billing"}
        assert [(h.at, h.reason) for h in gateway.publisher.happenings()[2:]] == [(16_000, "end"), (16_000, "end")]


@pytest.mark.parametrize(("encoding", "table"), [("mulaw", MU_LAW), ("alaw", A_LAW)])
async def test_telephone_audio_is_decoded_and_resampled(encoding: str, table: np.ndarray) -> None:
    # A code that stands still is a constant signal, which any resampler must reproduce.
    async with running() as gateway:
        async with stream(gateway, encoding=encoding, rate_hz=8_000) as client:
            for _ in range(50):
                await client.send(bytes([0x9A]) * 160)
            await client.send(END)
            messages, code, _ = await until_closed(client)
        assert code == 1000
        assert messages[-1]["streams"]["call/customer"]["duration_s"] == 1.0
        pcm = gateway.publisher.pcm("call/customer")
        assert len(pcm) == 16_000
        assert np.all(np.abs(pcm[1_600:-1_600].astype(int) - int(table[0x9A])) <= 1)
        assert max(len(p.record.pcm) for p in gateway.publisher.of("call/customer")[:40]) == 640, "20 ms in, 20 ms out"


async def test_stereo_is_two_legs_with_one_timeline() -> None:
    both = np.arange(2 * 4_810, dtype="<i2").reshape(-1, 2)
    async with running() as gateway:
        async with stream(gateway, leg=..., legs=["customer", "agent"], channels=2) as client:
            await client.send(both.tobytes())
            await client.send(END)
            messages, _, _ = await until_closed(client)
        lengths = {"published_s": 0.32, "duration_s": 4_810 / 16_000, "padded_s": 310 / 16_000}
        assert messages[-1]["streams"] == {"call/customer": lengths, "call/agent": lengths}
        for channel, leg in enumerate(("customer", "agent")):
            pcm = gateway.publisher.pcm(f"call/{leg}")
            assert np.array_equal(pcm[:4_810], both[:, channel])
            assert not pcm[4_810:].any()
        assert [p.record.start for p in gateway.publisher.of("call/customer")] == [
            p.record.start for p in gateway.publisher.of("call/agent")
        ]
        assert gateway.publisher.told() == [
            ("CALL_STARTED", ""),
            ("STREAM_STARTED", "customer"),
            ("STREAM_STARTED", "agent"),
            ("STREAM_ENDED", "customer"),
            ("STREAM_ENDED", "agent"),
            ("CALL_ENDED", ""),
        ]


async def test_a_call_lasts_from_its_first_leg_to_its_last() -> None:
    async with running() as gateway:
        async with stream(gateway, leg="agent") as agent:
            async with stream(gateway, leg="customer") as customer:
                await customer.send(END)
                await until_closed(customer)
            await agent.send(FRAME * 2)
            await agent.send(END)
            await until_closed(agent)
        assert gateway.publisher.told() == [
            ("CALL_STARTED", ""),
            ("STREAM_STARTED", "agent"),
            ("STREAM_STARTED", "customer"),
            ("STREAM_ENDED", "customer"),
            ("STREAM_ENDED", "agent"),
            ("CALL_ENDED", ""),
        ]
        assert gateway.publisher.happenings()[-1].at == 640


async def test_a_stream_without_audio_ends_with_one_empty_record() -> None:
    async with running() as gateway:
        async with stream(gateway) as client:
            await client.send(END)
            messages, code, _ = await until_closed(client)
        assert code == 1000
        assert messages[-1]["streams"]["call/customer"]["duration_s"] == 0
        (only,) = gateway.publisher.of("call/customer")
        assert only.record.last
        assert only.record.pcm == b""


async def test_acknowledgements_tell_what_kafka_has() -> None:
    publisher = RecordingPublisher(acknowledges=False)
    async with running(publisher) as gateway, stream(gateway) as client:
        await client.send(FRAME * 10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.2)  # nothing is safe yet, nothing is said
        publisher.acknowledge_all()
        assert json.loads(await client.recv()) == {"type": "ack", "streams": {"call/customer": {"published_s": 0.2}}}
        publisher.acknowledges = True
        await client.send(END)
        messages, _, _ = await until_closed(client)
        assert messages[-1]["type"] == "ended"


async def test_an_upload_faster_than_real_time_arrives_whole() -> None:
    audio = np.random.default_rng(3).integers(-9_000, 9_000, 16_000 * 60).astype("<i2")
    async with running() as gateway:
        async with stream(gateway) as client:
            data = audio.tobytes()
            for at in range(0, len(data), 100_001):
                await client.send(data[at : at + 100_001])
            await client.send(END)
            messages, code, _ = await until_closed(client)
        assert code == 1000
        assert messages[-1]["streams"]["call/customer"]["published_s"] == 60.0
        assert np.array_equal(gateway.publisher.pcm("call/customer"), audio)


async def test_a_full_kafka_holds_the_client_back_and_loses_nothing() -> None:
    publisher = RecordingPublisher()
    async with running(publisher) as gateway:
        async with stream(gateway) as client:
            publisher.open.clear()
            sent = 0

            async def upload() -> None:
                nonlocal sent
                for _ in range(400):
                    await client.send(bytes(64_000))
                    sent += 1
                await client.send(END)

            uploading = asyncio.create_task(upload())
            await asyncio.sleep(0.5)
            held_at = sent
            assert held_at < 400, "the socket is not read while there is no room"
            await asyncio.sleep(0.2)
            assert sent == held_at
            async with stream(gateway, call_id="other"):
                pass  # others may still come and go
            publisher.open.set()
            await uploading
            messages, code, _ = await until_closed(client)
        assert code == 1000
        assert messages[-1]["streams"]["call/customer"]["published_s"] == 400 * 2.0


@pytest.mark.parametrize(
    ("first", "code", "name"),
    [
        ("nonsense", 4400, "bad_hello"),
        (hello(rate_hz=11_025), 4400, "bad_hello"),
        (hello(call_id="a/b"), 4400, "bad_hello"),
        (FRAME, 1003, "bad_message"),
    ],
)
async def test_a_bad_opening_is_told_and_counted(first: str | bytes, code: int, name: str) -> None:
    async with counted(code), running() as gateway:
        async with connect(gateway.url) as client:
            await client.send(first)
            (error,), closed_with, reason = await until_closed(client)
        assert closed_with == code
        assert (error["type"], error["code"], error["close_code"], error["retriable"]) == ("error", name, code, False)
        assert error["message"].startswith(reason)
        assert gateway.publisher.log == []


async def test_text_where_audio_belongs_ends_that_stream_only() -> None:
    async with running() as gateway, stream(gateway, call_id="good") as good:
        async with counted(1003), stream(gateway, call_id="bad") as bad:
            await bad.send(FRAME)
            await bad.send("audio, honestly")
            messages, code, reason = await until_closed(bad)
            assert code == 1003
            assert messages[-1]["code"] == "bad_message"
            assert "where audio belongs" in reason
        ended = [h for h in gateway.publisher.happenings() if h.kind == CallEvent.STREAM_ENDED]
        assert [(h.call_id, h.at) for h in ended] == [("bad", 320)]
        assert ended[0].reason.startswith("bad message: ")
        assert gateway.publisher.of("bad/customer")[-1].record.last
        await good.send(FRAME)
        await good.send(END)
        messages, code, _ = await until_closed(good)
        assert code == 1000
        assert messages[-1]["streams"]["good/customer"]["published_s"] == 0.02


async def test_audio_that_ends_inside_a_sample() -> None:
    async with counted(4415), running() as gateway:
        async with stream(gateway, leg=..., legs=["a", "b"], channels=2) as client:
            await client.send(bytes(1_280 + 3))
            await client.send(END)
            messages, code, reason = await until_closed(client)
        assert code == 4415
        assert messages[-1]["code"] == "bad_audio"
        assert "3 byte(s)" in reason
        assert len(gateway.publisher.pcm("call/a")) == 320, "what was whole has been published"
        assert gateway.publisher.of("call/a")[-1].record.last
        assert gateway.publisher.happenings()[-1].reason.startswith("bad audio: ")


async def test_a_second_stream_with_the_same_id() -> None:
    async with counted(4409), running() as gateway, stream(gateway) as first:
        async with connect(gateway.url) as second:
            await second.send(hello(leg=..., legs=["agent", "customer"], channels=2))
            (error,), code, reason = await until_closed(second)
        assert code == 4409
        assert error["code"] == "stream_exists"
        assert "call/customer" in reason
        await first.send(FRAME)
        await first.send(END)
        _, code, _ = await until_closed(first)
        assert code == 1000
        async with stream(gateway):
            pass  # the id is free again


async def test_too_many_streams() -> None:
    async with counted(1008), running(max_streams=2) as gateway, stream(gateway, leg="a"), stream(gateway, leg="b"):
        async with connect(gateway.url) as third:
            await third.send(hello(leg="c"))
            (error,), code, reason = await until_closed(third)
        assert code == 1008
        assert error["code"] == "too_many_streams"
        assert "limit is 2" in reason


async def test_too_many_connections_are_refused_before_they_are_open() -> None:
    async with running(max_streams=1) as gateway, connect(gateway.url), connect(gateway.url):
        with pytest.raises(Exception, match="503"):
            await connect(gateway.url)


async def test_a_message_that_is_too_large() -> None:
    async with counted(1009), running(max_message_bytes=2_000) as gateway:
        async with stream(gateway) as client:
            await client.send(FRAME)
            await client.send(bytes(2_001))
            _, code, _ = await until_closed(client)
        assert code == 1009
        await gateway.idle()
        assert gateway.publisher.happenings()[-1].reason.startswith("closed by the gateway: 1009 ")
        assert len(gateway.publisher.pcm("call/customer")) == 320


async def test_a_connection_that_is_lost_ends_its_stream() -> None:
    async with running() as gateway:
        async with stream(gateway) as client:
            await client.send(bytes(1_000))
            await until(lambda: gateway.publisher.of("call/customer"))
            raw = client.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.transport.abort()  # a reset, no close frame
            await gateway.idle()
        last = gateway.publisher.of("call/customer")[-1].record
        assert last.last
        assert last.end == 640, "what had come is published, its last frame filled up"
        assert [(h.at, h.reason) for h in gateway.publisher.happenings()[2:]] == [(640, "connection lost")] * 2


async def test_a_client_that_closes_without_an_end_is_lost_too() -> None:
    async with running() as gateway:
        async with stream(gateway) as client:
            await client.send(FRAME)
        await gateway.idle()
        assert gateway.publisher.happenings()[-1].reason == "connection lost"
        assert len(gateway.publisher.pcm("call/customer")) == 320


async def test_a_client_that_ends_and_leaves_at_once_has_ended() -> None:
    async with running() as gateway:
        async with stream(gateway) as client:
            await client.send(FRAME * 50)
            await client.send(END)
        await gateway.idle()
        assert gateway.publisher.happenings()[-1].reason == "end"
        assert len(gateway.publisher.pcm("call/customer")) == 320 * 50


async def test_no_hello_in_time() -> None:
    async with counted(4408), running(hello_timeout_s=0.1) as gateway, connect(gateway.url) as client:
        (error,), code, reason = await until_closed(client)
        assert code == 4408
        assert error["code"] == "timed_out"
        assert "hello" in reason


async def test_a_silent_client() -> None:
    async with counted(4408), running(idle_timeout_s=0.15) as gateway, stream(gateway) as client:
        await client.send(FRAME)
        messages, code, reason = await until_closed(client)
        assert code == 4408
        assert messages[-1]["code"] == "timed_out"
        assert "Nothing came for 0.15 s" in reason
        assert gateway.publisher.happenings()[-1].reason.startswith("timed out: ")


async def test_waiting_for_kafka_is_not_the_clients_silence() -> None:
    publisher = RecordingPublisher()
    async with running(publisher, idle_timeout_s=0.1) as gateway, stream(gateway) as client:
        publisher.open.clear()
        await client.send(FRAME)
        await asyncio.sleep(0.3)
        publisher.open.set()
        await client.send(END)
        _, code, _ = await until_closed(client)
        assert code == 1000


async def test_kafka_that_takes_nothing_closes_with_1013_even_while_the_client_floods() -> None:
    async with counted(1013), running(RecordingPublisher(refuses=True)) as gateway, stream(gateway) as client:

        async def flood() -> None:
            while True:
                await client.send(bytes(500_000))

        flooding = asyncio.create_task(flood())
        messages, code, reason = await until_closed(client)
        with pytest.raises(ConnectionClosed):
            await flooding
        assert code == 1013
        assert (messages[-1]["code"], messages[-1]["retriable"]) == ("not_published", True)
        assert "Kafka took no audio" in reason
        assert gateway.publisher.happenings()[-1].reason.startswith("not published: ")


async def test_a_record_that_is_lost_closes_its_stream_with_1013() -> None:
    publisher = RecordingPublisher(acknowledges=False)
    async with (
        counted(1013),
        running(publisher) as gateway,
        stream(gateway) as client,
        stream(gateway, leg="b") as other,
    ):
        await client.send(FRAME)
        await until(lambda: publisher.of("call/customer"))
        publisher.of("call/customer")[0].delivery.lost("Broker: Message timed out")
        _, code, reason = await until_closed(client)
        assert code == 1013
        assert "Message timed out" in reason
        publisher.acknowledges = True
        await other.send(END)
        _, code, _ = await until_closed(other)
        assert code == 1000


async def test_an_end_that_kafka_never_acknowledges() -> None:
    publisher = RecordingPublisher(acknowledges=False)
    async with running(publisher, publish_timeout_s=0.1) as gateway, stream(gateway) as client:
        await client.send(FRAME)
        await client.send(END)
        messages, code, _ = await until_closed(client)
        assert code == 1013
        assert "did not acknowledge" in messages[-1]["message"]


async def test_events_that_kafka_does_not_take_leave_the_id_free() -> None:
    class NoEvents(RecordingPublisher):
        async def event(self, happening: Any) -> None:
            raise NotPublished("Kafka is away.")

    async with running(NoEvents()) as gateway:
        async with connect(gateway.url) as client:
            await client.send(hello())
            _, code, reason = await until_closed(client)
        assert (code, reason) == (1013, "Kafka is away.")
        assert gateway.intake.open_streams == 0


async def test_a_fault_of_the_gateway_ends_the_stream_and_not_the_gateway() -> None:
    class Faulty(RecordingPublisher):
        async def room(self, delivery: Delivery) -> None:
            raise RuntimeError("a fault made by the test")

    async with running(Faulty()) as gateway:
        async with stream(gateway) as client:
            await client.send(FRAME)
            _, code, _ = await until_closed(client)
        assert code == 1011
        assert gateway.publisher.happenings()[-1].reason == "gateway error"
        async with stream(gateway):
            pass


async def test_shutting_down_ends_open_streams() -> None:
    async with running() as gateway:
        async with stream(gateway) as client:
            await client.send(FRAME)
            await until(lambda: gateway.publisher.of("call/customer"))
            stopping = asyncio.create_task(gateway.stop())
            _, code, reason = await until_closed(client)
            assert (code, reason) == (1001, "gateway shutting down")
            await stopping
        assert gateway.publisher.happenings()[-1].reason == "gateway shutting down"
        assert gateway.publisher.of("call/customer")[-1].record.last


async def test_health_metrics_and_nothing_else() -> None:
    async with running() as gateway, stream(gateway) as client:
        await client.send(FRAME)
        assert await asyncio.to_thread(gateway.http, "/healthz") == (200, "ok\n")
        status, text = await asyncio.to_thread(gateway.http, "/metrics")
        assert status == 200
        assert 'callscope_ingest_streams_open{source="websocket"} 1.0' in text
        status, text = await asyncio.to_thread(gateway.http, "/v2/stream")
        assert status == 404
        assert "/v1/stream" in text


async def test_one_long_message_does_not_stop_the_others() -> None:
    # A megabyte of mu-law is 131 s of audio: about a tenth of a second of work, done in slices.
    async with (
        running() as gateway,
        stream(gateway, encoding="mulaw", rate_hz=8_000) as long,
        stream(gateway, leg="b") as short,
    ):
        await long.send(bytes(1 << 20))
        await until(lambda: gateway.publisher.of("call/customer"))
        await short.send(FRAME)
        for client in (long, short):
            await client.send(END)
            await until_closed(client)
        frame = gateway.publisher.log.index(gateway.publisher.of("call/b")[0])
        after = [p for p in gateway.publisher.of("call/customer") if gateway.publisher.log.index(p) > frame]
        assert len(after) > 100
        assert len(gateway.publisher.pcm("call/customer")) == 2 * (1 << 20) + (-2 * (1 << 20)) % 320


async def test_a_consent_is_published_with_its_media_time_before_the_audio_that_follows() -> None:
    async with running() as gateway, connect(gateway.url, compression=None) as client:
        await client.send(hello(leg=..., legs=["customer", "agent"], channels=2))
        assert json.loads(await client.recv())["type"] == "ready"
        await client.send(bytes(2 * 640))
        await client.send(json.dumps({"type": "consent", "leg": "customer", "analyse": False}))
        await client.send(bytes(2 * 640))
        await client.send(json.dumps({"type": "consent", "analyse": True, "purposes": ["health"]}))
        await client.send(END)
        messages, code, _ = await until_closed(client)
        assert code == 1000
        told = [message for message in messages if message["type"] == "consented"]
        assert [(m["analyse"], m["purposes"], m["streams"]) for m in told] == [
            (False, [], {"call/customer": {"since_s": 0.02}}),
            (True, ["health"], {"call/customer": {"since_s": 0.04}, "call/agent": {"since_s": 0.04}}),
        ]
        happenings = [h for h in gateway.publisher.happenings() if h.kind == CallEvent.CONSENT]
        assert [(h.call_id, h.leg, h.at, h.allowed, h.purposes) for h in happenings] == [
            ("call", "customer", 320, False, ()),
            ("call", "customer", 640, True, ("health",)),
            ("call", "agent", 640, True, ("health",)),
        ]
        log = [p.record.start if isinstance(p, Published) else p.kind for p in gateway.publisher.log]
        assert log.index(CallEvent.CONSENT) < log.index(320)


async def test_a_consent_that_kafka_does_not_confirm_ends_the_stream() -> None:
    async with running() as gateway, stream(gateway) as client:
        gateway.publisher.refuses = True
        await client.send(json.dumps({"type": "consent", "analyse": False}))
        messages, code, _ = await until_closed(client)
        assert (messages[-1]["code"], code) == ("not_published", 1013)
