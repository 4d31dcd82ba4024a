"""How calls on the gRPC port begin and end: statuses, deadlines, cancellation, limits, tokens, health, reflection."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client import REGISTRY

from callscope import kafka as kafka_client
from callscope.config import Access, AccessToken, Settings
from callscope.errors import ConfigError
from callscope.topics import VOICE_FEATURES, partition_of
from ingest.gateways import grpc_port
from ingest.gateways.grpc_port import GrpcListener
from schemas.v1.analysis_pb2 import AnalysisResult, AudioChunk, ConsentGiven, StreamStart
from schemas.v1.analysis_pb2_grpc import VoiceAnalysisStub
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.features_pb2 import FeatureWindow
from tests.ingest.gateways.grpc_serving import configured, connected, listening, until
from tests.ingest.recording import RecordingPublisher

pytestmark = pytest.mark.integration

SECOND = np.random.default_rng(1).integers(-8_000, 8_000, 16_000).astype("<i2").tobytes()
TOKEN = "a-token-of-these-tests"


def start(**fields: object) -> AudioChunk:
    wanted = {"call_id": "c", "legs": ["customer"], "encoding": StreamStart.S16LE, "rate_hz": 16_000, **fields}
    return AudioChunk(start=StreamStart(**wanted))  # type: ignore[arg-type]  # some are wrong on purpose


def audio(data: bytes = SECOND, **fields: object) -> AudioChunk:
    return AudioChunk(audio=data, **fields)  # type: ignore[arg-type]


async def outcome(
    listener: GrpcListener, *chunks: AudioChunk, token: str | None = None
) -> tuple[list[AnalysisResult], grpc.RpcError | None]:
    """What comes back on a call that sends these and half-closes, by gRPC's blocking client.

    grpc.aio's own puts INTERNAL in the place of the server's status where it was still sending when that came.
    """

    def call() -> tuple[list[AnalysisResult], grpc.RpcError | None]:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        results: list[AnalysisResult] = []
        with grpc.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
            try:
                results.extend(VoiceAnalysisStub(channel).StreamAnalysis(iter(chunks), metadata=metadata))
            except grpc.RpcError as error:
                return results, error
        return results, None

    return await asyncio.to_thread(call)


def trailers(error: grpc.RpcError) -> dict[str, str]:
    """What the gateway says of an error beside its status."""
    return {entry.key: str(entry.value) for entry in error.trailing_metadata()}


async def answer(call: grpc.aio.StreamStreamCall[AudioChunk, AnalysisResult]) -> AnalysisResult:
    """The next message of a call."""
    message = await call.read()
    assert isinstance(message, AnalysisResult)
    return message


def refusals(status: str) -> float:
    return REGISTRY.get_sample_value("callscope_ingest_errors_total", {"code": status}) or 0.0


@pytest.mark.parametrize(
    ("chunks", "code", "says"),
    [
        ([], "bad_hello", "without a start"),
        ([audio()], "bad_message", "must be a start"),
        ([start(call_id="a b")], "bad_hello", "call_id"),
        ([start(call_id="tenant~c")], "bad_hello", "call_id"),
        ([start(legs=["a", "b", "c"])], "bad_hello", "legs"),
        ([start(rate_hz=11_025)], "bad_hello", "rate_hz"),
        ([start(encoding=9)], "bad_hello", "encoding"),
        ([start(channels=2)], "bad_hello", "channels is 2"),
        ([start(), start()], "bad_message", "second start"),
        ([start(), AudioChunk()], "bad_message", "without content"),
        ([start(), audio(leg="agent")], "bad_message", "names a leg"),
        ([start(), AudioChunk(consent=ConsentGiven(leg="nobody"))], "bad_message", "nobody"),
        ([start(), audio(SECOND[:-1])], "bad_audio", "inside a sample"),
    ],
)
async def test_a_clients_faults_are_told_in_words(
    kafka: Settings, chunks: list[AudioChunk], code: str, says: str
) -> None:
    counted = refusals("INVALID_ARGUMENT")
    async with listening(configured(kafka), RecordingPublisher()) as listener:
        _, error = await outcome(listener, *chunks)
    assert error is not None and error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert says in str(error.details())
    assert trailers(error) == {"callscope-error": code, "callscope-retriable": "false"}
    assert refusals("INVALID_ARGUMENT") == counted + 1


async def test_garbage_is_refused_and_touches_nobody_else(kafka: Settings) -> None:
    publisher = RecordingPublisher()
    async with listening(configured(kafka), publisher) as listener, connected(listener) as channel:
        good = VoiceAnalysisStub(channel).StreamAnalysis()
        await good.write(start())
        assert (await answer(good)).ready.streams == ["c/customer"]
        raw: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/callscope.v1.VoiceAnalysis/StreamAnalysis"
        )
        call = raw(iter([b"\xff\xff\xff\xff"]))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            _ = [message async for message in call]
        assert refused.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
        await good.write(audio())
        await until(lambda: publisher.of("c/customer"))
        good.cancel()


async def test_results_that_do_not_come_are_not_waited_for_for_ever(kafka: Settings) -> None:
    """No processors work here; the audio is safe all the same, and the status says so."""
    async with listening(configured(kafka)) as listener:
        results, error = await outcome(listener, start(call_id="late"), audio())
    assert error is not None and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "All audio is safe" in str(error.details())
    assert max(result.published.legs[0].at for result in results if result.published.legs) == 16_000


async def test_two_legs_each_on_its_own_clock(kafka: Settings) -> None:
    publisher = RecordingPublisher()
    chunks = [
        start(legs=["customer", "agent"], channels=1),
        audio(SECOND[:6_400], leg="customer"),
        AudioChunk(leg="agent", missing_before=8_000),
        audio(SECOND[6_400:12_800], leg="agent"),
        audio(SECOND[12_800:], leg="customer"),
    ]
    async with listening(configured(kafka), publisher) as listener:
        await outcome(listener, *chunks)
    assert publisher.pcm("c/customer").tobytes() == SECOND[:6_400] + SECOND[12_800:]
    assert publisher.pcm("c/agent").tobytes() == SECOND[6_400:12_800]
    (agent,) = {p.record.start for p in publisher.of("c/agent")[:1]}
    assert agent == publisher.of("c/agent")[0].record.gap_before == 8_000
    gaps = [h for h in publisher.happenings() if h.kind == CallEvent.GAP]
    assert [(gap.leg, gap.at, gap.duration, gap.reason) for gap in gaps] == [("agent", 0, 8_000, "lost")]


async def test_a_consent_is_answered_with_the_time_it_holds_from(kafka: Settings) -> None:
    publisher = RecordingPublisher()
    consent = AudioChunk(consent=ConsentGiven(analyse=False, purposes=["emotion"]))
    async with listening(configured(kafka), publisher) as listener:
        results, _ = await outcome(listener, start(), audio(), consent, audio())
    (answer,) = [result.consented for result in results if result.HasField("consented")]
    assert (answer.analyse, list(answer.purposes)) == (False, ["emotion"])
    assert [(since.leg, since.at) for since in answer.since] == [("customer", 16_000)]


async def test_a_stream_that_is_open_already(kafka: Settings) -> None:
    async with listening(configured(kafka), RecordingPublisher()) as listener, connected(listener) as channel:
        first = VoiceAnalysisStub(channel).StreamAnalysis()
        await first.write(start())
        await first.read()
        _, error = await outcome(listener, start())
        assert error is not None and error.code() == grpc.StatusCode.ALREADY_EXISTS
        first.cancel()


async def test_more_streams_than_the_limit(kafka: Settings) -> None:
    settings = configured(kafka, max_streams=1)
    async with listening(settings, RecordingPublisher()) as listener:
        _, error = await outcome(listener, start(legs=["a", "b"]))
        assert error is not None and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "limit is 1" in str(error.details())


async def test_messages_have_a_largest_size(kafka: Settings) -> None:
    settings = configured(kafka, max_message_bytes=4_096)
    publisher = RecordingPublisher()
    async with listening(settings, publisher) as listener:
        _, error = await outcome(listener, start(), audio(SECOND[:8_000]))
    assert error is not None and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert publisher.pcm("c/customer").size == 0


async def test_a_silent_client_is_found(kafka: Settings) -> None:
    settings = configured(kafka, idle_timeout_s=0.2, hello_timeout_s=0.2)
    publisher = RecordingPublisher()
    async with listening(settings, publisher) as listener, connected(listener) as channel:
        for chunks in ([], [start(), audio()]):
            call = VoiceAnalysisStub(channel).StreamAnalysis()
            for chunk in chunks:
                await call.write(chunk)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                while await call.read() is not grpc.aio.EOF:
                    pass
            assert ended.value.code() == grpc.StatusCode.ABORTED
    assert publisher.pcm("c/customer").tobytes() == SECOND
    assert publisher.happenings()[-1].reason.startswith("timed out: Nothing came for 0.2 s")


@pytest.mark.parametrize("how", ["cancelled", "deadline", "connection"])
async def test_what_came_before_a_call_broke_off_is_published(kafka: Settings, how: str) -> None:
    publisher = RecordingPublisher()
    async with listening(configured(kafka), publisher) as listener, connected(listener) as channel:
        call = VoiceAnalysisStub(channel).StreamAnalysis(timeout=0.5 if how == "deadline" else None)
        await call.write(start())
        await call.write(audio())
        await until(lambda: publisher.pcm("c/customer").size == 16_000)
        match how:
            case "cancelled":
                call.cancel()
            case "connection":
                await channel.close()
            case _:
                assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: publisher.told()[-1] == ("CALL_ENDED", ""))
    assert publisher.pcm("c/customer").tobytes() == SECOND
    assert publisher.of("c/customer")[-1].record.last
    assert publisher.happenings()[-1].reason == ("deadline exceeded" if how == "deadline" else "connection lost")


async def test_kafka_that_takes_nothing_ends_the_call(kafka: Settings) -> None:
    publisher = RecordingPublisher(refuses=True)
    async with listening(configured(kafka), publisher) as listener:
        _, error = await outcome(listener, start(), audio())
    assert error is not None and error.code() == grpc.StatusCode.UNAVAILABLE
    assert trailers(error)["callscope-retriable"] == "true"


async def test_a_client_is_held_back_where_kafka_is_busy(kafka: Settings) -> None:
    """What is not read waits with the client: the transport holds a window of it, not all."""
    publisher = RecordingPublisher()
    publisher.open.clear()
    async with listening(configured(kafka), publisher) as listener, connected(listener) as channel:
        call = VoiceAnalysisStub(channel).StreamAnalysis()
        await call.write(start())
        sent = 0

        async def upload() -> None:
            nonlocal sent
            while sent < 300:
                await call.write(audio())
                sent += 1

        uploading = asyncio.create_task(upload())
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent * len(SECOND) < 1 << 20
        publisher.open.set()
        await uploading
        await call.done_writing()
        await until(lambda: publisher.pcm("c/customer").size == 300 * 16_000)
        call.cancel()


@pytest.mark.parametrize("kind", [FeatureWindow.WINDOW, FeatureWindow.UTTERANCE])
async def test_a_client_that_does_not_read(kafka: Settings, kind: FeatureWindow.Kind.ValueType) -> None:
    """Interim results give way, and it is told how many; where final ones would be lost, the call ends."""
    call_id = f"call-{uuid4().hex[:8]}"
    settings = configured(kafka, queue_results=50)
    async with listening(settings, RecordingPublisher()) as listener, connected(listener) as channel:
        call = VoiceAnalysisStub(channel).StreamAnalysis()
        await call.write(start(call_id=call_id, lld=True, results=[StreamStart.FEATURES]))
        assert (await answer(call)).ready.streams
        await asyncio.to_thread(produce, kafka, call_id, kind, 1_000)
        await asyncio.sleep(1)
        starts: list[int] = []
        dropped = 0
        try:
            while len(starts) + dropped < 1_000:
                result = await answer(call)
                dropped += result.dropped.count
                if result.HasField("features"):
                    starts.append(result.features.start)
        except grpc.aio.AioRpcError as error:
            assert kind == FeatureWindow.UTTERANCE
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "not read as fast" in str(error.details())
            assert dropped == 0 and starts == list(range(len(starts)))
        else:
            assert kind == FeatureWindow.WINDOW
            assert dropped > 0 and starts == sorted(starts) and starts[-1] == 999
        call.cancel()


def produce(settings: Settings, call_id: str, kind: FeatureWindow.Kind.ValueType, count: int) -> None:
    """Windows of 10 kB each for one stream, as fast as they go."""
    producer = kafka_client.producer(settings)
    lld = [0.5] * 2_500
    for number in range(count):
        record = FeatureWindow(call_id=call_id, leg="customer", kind=kind, start=number, lld=lld)
        partition = partition_of(call_id, settings.topics.partitions)
        key = f"{call_id}/customer"
        producer.produce(VOICE_FEATURES.name, key=key, value=record.SerializeToString(), partition=partition)
    assert producer.flush(20) == 0


async def test_tokens(kafka: Settings) -> None:
    publisher = RecordingPublisher()
    tokens = (
        AccessToken.model_validate({"name": "sender", "token": TOKEN, "tenant": "acme"}),
        AccessToken.model_validate({"name": "screen", "token": TOKEN + "-2", "scopes": ["subscribe"]}),
    )
    settings = configured(kafka).model_copy(update={"access": Access(tokens=tokens)})
    async with listening(settings, publisher) as listener:
        for token, code in (
            (None, grpc.StatusCode.UNAUTHENTICATED),
            ("wrong-wrong-wrong", grpc.StatusCode.UNAUTHENTICATED),
            (TOKEN + "-2", grpc.StatusCode.PERMISSION_DENIED),
        ):
            _, error = await outcome(listener, start(), audio(), token=token)
            assert error is not None and error.code() == code
            assert TOKEN not in str(error.details())
        assert publisher.log == []
        results, _ = await outcome(listener, start(), audio(), token=TOKEN)
        assert results[0].ready.streams == ["c/customer"]
    assert publisher.pcm("acme~c/customer").tobytes() == SECOND
    assert publisher.of("c/customer") == []


async def test_stopping_ends_calls_and_publishes_what_came(kafka: Settings) -> None:
    publisher = RecordingPublisher()
    async with listening(configured(kafka), publisher) as listener, connected(listener) as channel:
        call = VoiceAnalysisStub(channel).StreamAnalysis()
        await call.write(start())
        await call.write(audio())
        await until(lambda: publisher.pcm("c/customer").size == 16_000)
        closing = asyncio.create_task(listener.close())
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while await call.read() is not grpc.aio.EOF:
                pass
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        await closing
        assert publisher.happenings()[-1].reason == "gateway shutting down"
        assert publisher.pcm("c/customer").tobytes() == SECOND


async def test_health(kafka: Settings) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    async with listening(configured(kafka), RecordingPublisher()) as listener, connected(listener) as channel:
        health: Any = HealthStub(channel)
        for service in ("", grpc_port.ANALYSIS, grpc_port.WEBEX):
            async with asyncio.timeout(5):
                while True:
                    try:
                        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
                    except grpc.aio.AioRpcError:
                        answer = None
                    if answer is not None and answer.status == serving:
                        break
                    await asyncio.sleep(0.05)
        webex = channel.unary_unary(
            f"/{grpc_port.WEBEX_HEALTH}/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        assert (await webex(health_pb2.HealthCheckRequest())).status == serving


async def test_reflection_tells_the_schema(kafka: Settings) -> None:
    async with listening(configured(kafka), RecordingPublisher()) as listener:

        def ask() -> tuple[list[str], list[str]]:
            with grpc.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                service = DescriptorPool(database).FindServiceByName(grpc_port.ANALYSIS)
                return list(database.get_services()), [method.name for method in service.methods]

        services, methods = await asyncio.to_thread(ask)
    assert {grpc_port.ANALYSIS, grpc_port.WEBEX, "grpc.health.v1.Health"} <= set(services)
    assert methods == ["StreamAnalysis"]


async def test_a_taken_port_is_explained(kafka: Settings) -> None:
    async with listening(configured(kafka), RecordingPublisher()) as listener:
        settings = configured(kafka)
        taken = settings.ingest.model_copy(
            update={"grpc": settings.ingest.grpc.model_copy(update={"port": listener.port})}
        )
        with pytest.raises(ConfigError, match="CALLSCOPE_INGEST__GRPC__PORT"):
            async with listening(settings.model_copy(update={"ingest": taken}), RecordingPublisher()):
                pass
