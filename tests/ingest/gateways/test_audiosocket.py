import asyncio
import base64
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import numpy as np
import pytest

from ingest.protocols.audiosocket import packet
from tests.ingest.gateways.ports import TOKEN, Ports, counted, ports, until

SAMPLES = np.arange(-8_000, 8_000, dtype="<i2")
PBX = {"name": "pbx", "token": TOKEN, "tenant": "acme", "scopes": ["publish"]}
HUNG_UP = packet(0x00)


@asynccontextmanager
async def channel(gateway: Ports) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.audiosocket_port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def named(call: UUID) -> bytes:
    return packet(0x01, call.bytes)


def spoken(kind: int = 0x12) -> bytes:
    data = SAMPLES.tobytes()
    return b"".join(packet(kind, data[at : at + 640]) for at in range(0, len(data), 640))


async def registered(gateway: Ports, query: str, token: str = TOKEN) -> UUID:
    status, text = await asyncio.to_thread(
        gateway.get, f"/asterisk/audiosocket?{query}", Authorization=f"Bearer {token}"
    )
    assert status == 200, text
    return UUID(text)


async def all_read(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read()


async def test_a_registered_call() -> None:
    async with ports(tokens=(PBX,)) as gateway:
        call = await registered(gateway, "call_id=call-1&leg=customer&queue=billing")
        async with channel(gateway) as (reader, writer):
            writer.write(named(call) + spoken() + packet(0x03, b"5") + spoken() + packet(0x00))
            assert await all_read(reader) == HUNG_UP
        await gateway.idle()
        stream = "acme~call-1/customer"
        assert np.array_equal(gateway.publisher.pcm(stream), np.concatenate((SAMPLES, SAMPLES)))
        assert [(kind, leg) for kind, leg in gateway.publisher.told()] == [
            ("CALL_STARTED", ""),
            ("STREAM_STARTED", "customer"),
            ("DTMF", "customer"),
            ("STREAM_ENDED", "customer"),
            ("CALL_ENDED", ""),
        ]
        started, _, dtmf, ended, _ = gateway.publisher.happenings()
        assert started.metadata == {"queue": "billing"}
        assert dtmf.at == len(SAMPLES)
        assert ended.reason == "end"
        assert {p.source for p in gateway.publisher.of(stream)} == {"audiosocket"}


async def test_two_legs_of_one_call() -> None:
    async with ports(tokens=(PBX,)) as gateway:
        legs = [await registered(gateway, f"call_id=call-1&leg={leg}") for leg in ("customer", "agent")]
        async with channel(gateway) as (_, one), channel(gateway) as (_, other):
            one.write(named(legs[0]) + spoken())
            other.write(named(legs[1]) + spoken())
            await until(lambda: gateway.intake.open_streams == 2)
        await gateway.idle()
        for leg in ("customer", "agent"):
            assert np.array_equal(gateway.publisher.pcm(f"acme~call-1/{leg}"), SAMPLES)
        assert [kind for kind, _ in gateway.publisher.told()].count("CALL_STARTED") == 1


@pytest.mark.parametrize("reuse", [False, True])
async def test_a_uuid_that_is_not_registered_or_was_used(reuse: bool) -> None:
    async with ports(tokens=(PBX,)) as gateway:
        call = uuid4()
        if reuse:
            call = await registered(gateway, "call_id=call-1&leg=customer")
            async with channel(gateway) as (reader, writer):
                writer.write(named(call) + packet(0x00))
                assert await all_read(reader) == HUNG_UP
        async with counted(4401), channel(gateway) as (reader, writer):
            writer.write(named(call) + spoken())
            assert await all_read(reader) == HUNG_UP
        assert not gateway.publisher.log


async def test_a_token_in_the_place_of_the_uuid() -> None:
    token = uuid4()
    async with ports(tokens=({**PBX, "token": str(token)},)) as gateway:
        async with channel(gateway) as (_, one), channel(gateway) as (_, other):
            for writer in (one, other):
                writer.write(named(token) + spoken())
            await until(lambda: gateway.intake.open_streams == 2)
        await gateway.idle()
        call_ids = {happening.call_id for happening in gateway.publisher.happenings()}
        assert len(call_ids) == 2, "each connection is a call of its own"
        assert not any(str(token) in call_id for call_id in call_ids), "a token is not a name"


async def test_with_no_token_configured_the_uuid_is_the_call() -> None:
    call = uuid4()
    async with ports() as gateway:
        async with channel(gateway) as (_, writer):
            writer.write(named(call) + spoken())
        await until(lambda: gateway.publisher.told() and gateway.publisher.told()[-1][0] == "CALL_ENDED")
        assert np.array_equal(gateway.publisher.pcm(f"{call}/unknown"), SAMPLES)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 4400),
        (spoken(), 4400),
        (named(UUID(int=1)) + named(UUID(int=1)), 1003),
        (named(UUID(int=1)) + spoken() + spoken(0x10), 4415),
        (named(UUID(int=1)) + spoken() + packet(0x10 + 9), 1003),
        (named(UUID(int=1)) + packet(0xFF, b"\1"), 4424),
    ],
)
async def test_garbage_is_hung_up_on_and_touches_no_other_stream(data: bytes, code: int) -> None:
    async with ports() as gateway:
        async with channel(gateway) as (_, good):
            good.write(named(UUID(int=7)) + spoken())
            async with counted(code), channel(gateway) as (reader, writer):
                writer.write(data)
                assert await all_read(reader) == HUNG_UP
            good.write(spoken())
        await gateway.idle()
        assert np.array_equal(gateway.publisher.pcm(f"{UUID(int=7)}/unknown"), np.concatenate((SAMPLES, SAMPLES)))


async def test_audio_before_garbage_is_kept_and_the_reason_told() -> None:
    async with ports() as gateway:
        async with channel(gateway) as (reader, writer):
            writer.write(named(UUID(int=1)) + spoken() + packet(0x77))
            await all_read(reader)
        await gateway.idle()
        assert np.array_equal(gateway.publisher.pcm(f"{UUID(int=1)}/unknown"), SAMPLES)
        assert "0x77" in gateway.publisher.happenings()[-1].reason


async def test_half_a_sample_at_the_end() -> None:
    async with ports() as gateway, counted(4415):
        async with channel(gateway) as (_, writer):
            writer.write(named(UUID(int=1)) + spoken() + packet(0x12, b"x"))
        await gateway.idle()


async def test_a_connection_that_breaks_inside_a_packet() -> None:
    async with ports() as gateway:
        async with channel(gateway) as (_, writer):
            writer.write(named(UUID(int=1)) + spoken() + packet(0x12, bytes(640))[:100])
        await until(lambda: gateway.publisher.told()[-1:] == [("CALL_ENDED", "")])
        assert gateway.publisher.happenings()[-1].reason == "connection lost"
        assert np.array_equal(gateway.publisher.pcm(f"{UUID(int=1)}/unknown"), SAMPLES)


async def test_a_connection_that_is_reset() -> None:
    async with ports() as gateway:
        async with channel(gateway) as (_, writer):
            writer.write(named(UUID(int=1)) + spoken())
            await until(lambda: len(gateway.publisher.pcm(f"{UUID(int=1)}/unknown")) == len(SAMPLES))
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await until(lambda: gateway.publisher.told()[-1:] == [("CALL_ENDED", "")])
        assert gateway.publisher.happenings()[-1].reason == "connection lost"


async def test_a_quiet_channel_is_sent_silence_and_a_dead_one_hung_up() -> None:
    async with ports(idle_timeout_s=2.2) as gateway:
        async with counted(4408), channel(gateway) as (reader, writer):
            writer.write(named(UUID(int=1)) + spoken())
            told = await all_read(reader)
        silence = packet(0x12, bytes(640))
        assert told.endswith(HUNG_UP)
        assert len(told) > len(HUNG_UP)
        assert told == silence * ((len(told) - len(HUNG_UP)) // len(silence)) + HUNG_UP
        await gateway.idle()
        assert "Nothing came" in gateway.publisher.happenings()[-1].reason


async def test_a_stranger_that_says_nothing() -> None:
    async with ports(hello_timeout_s=0.2) as gateway, counted(4408), channel(gateway) as (reader, _):
        assert await all_read(reader) == HUNG_UP


async def test_too_many_streams() -> None:
    async with ports(max_streams=1) as gateway:
        async with channel(gateway) as (_, one):
            one.write(named(UUID(int=1)) + spoken())
            await until(lambda: gateway.intake.open_streams == 1)
            async with counted(1008), channel(gateway) as (reader, writer):
                writer.write(named(UUID(int=2)) + spoken())
                assert await all_read(reader) == HUNG_UP


async def test_too_many_connections() -> None:
    async with ports(max_streams=1) as gateway, channel(gateway), channel(gateway):
        await asyncio.sleep(0.05)
        async with counted(1008), channel(gateway) as (reader, _):
            assert await all_read(reader) == HUNG_UP


async def test_shutting_down_hangs_up_and_ends_the_streams() -> None:
    async with ports() as gateway, channel(gateway) as (reader, writer):
        writer.write(named(UUID(int=1)) + spoken())
        await until(lambda: len(gateway.publisher.pcm(f"{UUID(int=1)}/unknown")) == len(SAMPLES))
        closing = asyncio.create_task(gateway.close())
        assert await all_read(reader) == HUNG_UP
        writer.close()
        await closing
        assert gateway.publisher.happenings()[-1].reason == "gateway shutting down"


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("leg=customer", 400, "call_id"),
        ("call_id=call-1", 400, "leg"),
        ("call_id=a~b&leg=customer", 400, "call_id"),
        ("call_id=call-1&leg=customer&uuid=17", 400, "uuid"),
        ("&".join(f"p{n}=1" for n in range(40)), 400, "parameters"),
    ],
)
async def test_a_registration_that_cannot_be_made_is_told_why(query: str, status: int, says: str) -> None:
    async with ports() as gateway, counted(status):
        got, text = await asyncio.to_thread(gateway.get, f"/asterisk/audiosocket?{query}")
        assert got == status
        assert says in text


async def test_registering_needs_a_token_and_takes_it_as_a_password_too() -> None:
    path = "/asterisk/audiosocket?call_id=call-1&leg=customer"
    basic = base64.b64encode(f"pbx:{TOKEN}".encode()).decode()
    async with ports(tokens=(PBX,)) as gateway:
        assert (await asyncio.to_thread(gateway.get, path))[0] == 401
        assert (await asyncio.to_thread(gateway.get, path, Authorization="Basic !"))[0] == 401
        assert (await asyncio.to_thread(gateway.get, path, Authorization=f"Basic {basic}"))[0] == 200
        uuid = f"&uuid={uuid4()}"
        assert (await asyncio.to_thread(gateway.get, path + uuid, Authorization=f"Basic {basic}"))[0] == 200
        status, text = await asyncio.to_thread(gateway.get, path + uuid, Authorization=f"Basic {basic}")
        assert (status, "already" in text) == (409, True)
