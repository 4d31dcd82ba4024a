"""`callscope send`'s half of the protocol, against a gateway of a few lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from callscope.client.recording import Recording
from callscope.client.sending import SendRefused, send

RECORDING = Recording("call", np.arange(16_000 * 2, dtype=np.int16).reshape(-1, 2), 16_000)
LEGS = ("customer", "agent")


@asynccontextmanager
async def gateway(talk: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(talk, "127.0.0.1", 0, max_queue=None) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"


class Polite:
    """Takes everything and says what a gateway says."""

    def __init__(self) -> None:
        self.hello: dict[str, object] = {}
        self.audio = b""

    async def __call__(self, connection: ServerConnection) -> None:
        self.hello = json.loads(await connection.recv())
        await connection.send(json.dumps({"type": "ready", "streams": []}))
        async for message in connection:
            if isinstance(message, str):
                assert json.loads(message) == {"type": "end"}
                break
            self.audio += message
            await self.tell(connection, "ack")
        await self.tell(connection, "ended")

    async def tell(self, connection: ServerConnection, kind: str) -> None:
        published = {"published_s": len(self.audio) / 4 / 16_000}
        await connection.send(json.dumps({"type": kind, "streams": {f"c/{leg}": published for leg in LEGS}}))


async def test_every_sample_is_sent_and_acknowledged() -> None:
    polite = Polite()
    async with gateway(polite) as address:
        state = await send(RECORDING, address, "c", LEGS, speed=0, metadata={"queue": "billing"})
    assert polite.audio == RECORDING.pcm.tobytes()
    assert polite.hello["legs"] == list(LEGS) and polite.hello["metadata"] == {"queue": "billing"}
    assert (state.sent_s, state.published_s) == (1.0, 1.0)


@pytest.mark.parametrize("limit_s", [0.3, 1.0, 2.5])
async def test_a_limit_cuts_the_recording_or_repeats_it(limit_s: float) -> None:
    polite = Polite()
    async with gateway(polite) as address:
        await send(RECORDING, address, "c", LEGS, speed=0, limit_s=limit_s)
    repeated = np.concatenate([RECORDING.pcm] * 3)[: round(limit_s * 16_000)]
    assert polite.audio == repeated.tobytes()


async def test_a_gateway_that_acknowledges_nothing_is_not_run_ahead_of() -> None:
    heard = 0

    async def silent(connection: ServerConnection) -> None:
        nonlocal heard
        await connection.recv()
        await connection.send(json.dumps({"type": "ready", "streams": []}))
        async for message in connection:
            heard += len(message)

    async with gateway(silent) as address:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(RECORDING, address, "c", LEGS, speed=0, limit_s=60.0), 1.0)
    assert heard / 4 / 16_000 <= 5.1


async def test_a_refusal_is_told_in_the_gateways_words() -> None:
    async def full(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "error", "code": "too_many_streams", "message": "all 500 are taken"}))
        await connection.close(1008)

    async with gateway(full) as address:
        with pytest.raises(SendRefused, match="all 500 are taken"):
            await send(RECORDING, address, "c", LEGS, speed=0)


async def test_an_error_in_the_middle_ends_it() -> None:
    async def fickle(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "ready", "streams": []}))
        await connection.recv()
        await connection.send(json.dumps({"type": "error", "code": "not_published", "message": "Kafka is away"}))
        await connection.close(1013, "Kafka is away")

    async with gateway(fickle) as address:
        with pytest.raises(SendRefused, match="Kafka is away"):
            await send(RECORDING, address, "c", LEGS, speed=0, limit_s=60.0)


async def test_no_gateway_says_where_it_was_looked_for() -> None:
    with pytest.raises(SendRefused, match=r"No gateway answers at ws://127\.0\.0\.1:1/v1/stream"):
        await send(RECORDING, "ws://127.0.0.1:1/v1/stream", "c", LEGS)
