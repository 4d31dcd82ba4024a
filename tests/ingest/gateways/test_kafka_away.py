"""What a client is told while Kafka takes nothing, and how it goes on afterwards: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callscope.access import ANYONE
from callscope.config import Admission as AdmissionConfig
from callscope.errors import NotPublished, Overloaded
from callscope.streams import StreamId
from ingest.admission import Admission
from ingest.audio.framing import AudioFormat
from ingest.delivery import Delivery
from ingest.intake import Intake
from ingest.protocols.events import Opened
from tests.ingest.recording import RecordingPublisher
from tests.ingest.serving import serving

HELLO = {"type": "hello", "call_id": "call", "leg": "customer", "encoding": "s16le", "rate_hz": 16_000}
END = json.dumps({"type": "end"})
OPENED = Opened((StreamId("call", "customer"),), AudioFormat("s16le", 16_000, 1), "test", {})


async def ready(client: ClientConnection, **more: Any) -> dict[str, Any]:
    await client.send(json.dumps({**HELLO, **more}))
    answer: dict[str, Any] = json.loads(await client.recv())
    assert answer["type"] == "ready"
    return answer


async def until_closed(client: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    messages = []
    async with asyncio.timeout(10):
        try:
            while True:
                messages.append(json.loads(await client.recv()))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return messages, closed.rcvd.code


@pytest.mark.parametrize("times", [1, 3])
async def test_a_client_that_can_resume_goes_on_where_the_gateway_found_no_room(times: int) -> None:
    pcm = np.arange(1, 64_001).astype("<i2")
    async with serving() as gateway:
        async with connect(gateway.url) as client:
            session = (await ready(client, resumable=True))["session"]
            await client.send(pcm[:8_000].tobytes())
            while not gateway.publisher.of("call/customer"):  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.005)
            gateway.publisher.refuses = True
            await client.send(pcm[8_000:40_000].tobytes())  # two seconds: more than is converted at once
            messages, code = await until_closed(client)
            assert (messages[-1]["code"], messages[-1]["retriable"], code) == ("not_published", True, 1013)
        for _ in range(times - 1):  # it is too early
            async with connect(gateway.url) as client:
                assert (await ready(client, resume=session))["received"] == 40_000
                messages, code = await until_closed(client)
                assert (messages[-1]["code"], code) == ("not_published", 1013)
        gateway.publisher.refuses = False
        async with connect(gateway.url) as client:
            received = (await ready(client, resume=session))["received"]
            assert received == 40_000
            await client.send(pcm[received:].tobytes())
            await client.send(END)
            messages, code = await until_closed(client)
            assert (messages[-1]["type"], code) == ("ended", 1000)
    assert np.array_equal(gateway.publisher.pcm("call/customer"), pcm)
    records = [published.record for published in gateway.publisher.of("call/customer")]
    assert [record.seq for record in records] == list(range(len(records)))


async def test_a_client_that_never_resumes_has_what_it_sent_published_and_its_stream_ended() -> None:
    pcm = np.arange(1, 32_001).astype("<i2")
    async with serving(publish_timeout_s=0.1) as gateway, connect(gateway.url) as client:
        await ready(client)
        gateway.publisher.refuses = True  # but the ends of streams are always taken
        await client.send(pcm.tobytes())
        _, code = await until_closed(client)
        assert code == 1013
    assert np.array_equal(gateway.publisher.pcm("call/customer"), pcm)
    assert gateway.publisher.of("call/customer")[-1].record.last
    assert gateway.publisher.told()[-1] == ("CALL_ENDED", "")


async def test_a_hole_that_is_told_while_there_is_no_room_stays_where_it_is() -> None:
    publisher = RecordingPublisher()
    source = await Intake(publisher, 10, 1.0).open(OPENED, ANYONE)
    pcm = np.arange(1, 1_601).astype("<i2")
    await source.audio(pcm[:500].tobytes(), 1)  # cut inside a frame
    publisher.refuses = True
    with pytest.raises(NotPublished):
        await source.missing(3_200, "lost", 2)
    taken = source.taken
    publisher.refuses = False
    await source.audio(pcm[500:].tobytes(), 3)
    await source.end("end", 4, whole=True)
    assert taken == 3_700
    records = [published.record for published in publisher.of("call/customer")]
    assert [record.seq for record in records] == list(range(len(records)))
    whole = np.zeros(records[-1].end, np.int16)
    at = 0
    for record in records:
        assert record.start == at + record.gap_before
        at = record.end
        whole[record.start : at] = np.frombuffer(record.pcm, "<i2")
    assert np.array_equal(whole[:500], pcm[:500]) and np.array_equal(whole[3_700:4_800], pcm[500:])
    assert not whole[500:3_700].any()


async def test_a_record_that_was_lost_cannot_be_gone_on_behind() -> None:
    publisher = RecordingPublisher(acknowledges=False)
    async with serving() as gateway:
        gateway.gate.intake.publisher = publisher
        async with connect(gateway.url) as client:
            session = (await ready(client, resumable=True))["session"]
            await client.send(bytes(640))
            while not publisher.of("call/customer"):  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.005)
            publisher.of("call/customer")[0].delivery.lost("Broker: Message too large")
            _, code = await until_closed(client)
            assert code == 1013
        async with connect(gateway.url) as client:
            await client.send(json.dumps({**HELLO, "resume": session}))
            messages, code = await until_closed(client)
            assert (messages[-1]["code"], code) == ("unknown_session", 4410)


def keep(delivery: Delivery, records: int) -> None:
    for _ in range(records):
        delivery.spooled(320)
    delivery.kept_to(records - 1, records * 320)


async def test_acknowledgements_tell_kafka_from_the_disk_and_the_end_waits_for_kafka() -> None:
    async with serving(publish_timeout_s=0.05) as gateway, connect(gateway.url) as client:
        publisher = gateway.publisher
        publisher.acknowledges = False
        await ready(client)
        await client.send(bytes(640))
        await client.send(END)
        while not (frames := publisher.of("call/customer")) or not frames[-1].record.last:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        keep(frames[0].delivery, len(frames))
        ack = json.loads(await client.recv())
        kept_s = len(frames) * 0.02
        assert ack == {"type": "ack", "streams": {"call/customer": {"published_s": 0.0, "kept_s": kept_s}}}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):  # four times what it would wait for what is nowhere
                await client.recv()
        publisher.acknowledge_all()
        messages, code = await until_closed(client)
        assert (messages[-1]["type"], code) == ("ended", 1000)


async def test_where_nobody_is_told_the_disk_is_enough_for_an_end_and_a_gateway_that_ends_waits_for_nobody() -> None:
    publisher = RecordingPublisher(acknowledges=False)
    intake = Intake(publisher, 10, 0.05)
    source = await intake.open(OPENED, ANYONE)
    await source.audio(bytes(640), 1)
    await source.end("end", 1, whole=True)
    with pytest.raises(NotPublished, match="did not acknowledge the end"):
        await source.delivered()
    keep(publisher.of("call/customer")[0].delivery, 2)
    await source.delivered()
    waiting = asyncio.create_task(source.delivered(in_kafka=True))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    intake.is_stopping = True
    with pytest.raises(NotPublished, match="do not send it again"):
        await waiting


async def test_a_spool_with_little_room_refuses_new_calls_also_where_lag_does_not_count() -> None:
    admission = Admission(AdmissionConfig(enabled=False))
    intake = Intake(RecordingPublisher(), 10, 1.0, admission=admission)
    admission.spool("little room is left")
    with pytest.raises(Overloaded, match="Kafka is away, little room is left: calls that run go on"):
        await intake.open(OPENED, ANYONE)
    admission.spool(None)
    await (await intake.open(OPENED, ANYONE)).end("end", 1, whole=True)


async def test_health_says_what_is_wrong() -> None:
    async with serving() as gateway:

        def health() -> tuple[int, str]:
            with urlopen(f"http://127.0.0.1:{gateway.port}/healthz", timeout=5) as answer:
                return answer.status, answer.read().decode()

        assert await asyncio.to_thread(health) == (200, "ok\n")
        gateway.publisher.ails = "Kafka acknowledges nothing"
        assert await asyncio.to_thread(health) == (200, "degraded: Kafka acknowledges nothing\n")
