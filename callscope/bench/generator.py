"""The load: real-time calls into the gateway, subscribers to the results, and what they saw; a process of its own.

`python -m callscope.bench.generator` reads one `Orders` as JSON from standard input and writes a line of JSON whenever
something happens: `{"all_connected": true}`, `{"sent_s": 3.0}` as calls go on, `{"all_sent": true}` and at last
`{"seen": {...}}`, or `{"failed": "why"}`. It is a process of its own so that its cost can be told from that of what it
measures.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callscope import clock, lifetime
from callscope.bench.conversation import Conversation, Pcm, converse, utterances
from callscope.bench.seen import Seen
from callscope.client import recording
from callscope.errors import CallscopeError

CHUNK_S: Final = 0.02
LOOP_S: Final = 60.0
"""Longest call that is laid out; longer ones repeat it."""
CONNECT_EVERY_S: Final = 0.03
SETTLE_S: Final = 4.0
"""How long the last results may take after the last audio."""
LEGS: Final = ("customer", "agent")


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do.

    Attributes:
        gateway: its WebSocket address.
        results: the sink's WebSocket address.
        legs: how many at once, in calls of two (and one of one, if odd).
        seconds: how long each call lasts, beyond the time it takes to connect all.
        recordings: files whose voices speak.
        subscribers: how many follow all calls.
        run: goes into the calls' ids.
    """

    gateway: str
    results: str
    legs: int
    seconds: float
    recordings: list[str]
    subscribers: int
    run: str


def voices(paths: list[str]) -> list[tuple[list[list[Pcm]], int]]:
    """What the legs of each recording can say, and its rate.

    Raises:
        UnreadableRecording: a file is no audio.
        CallscopeError: a leg of it holds no speech.
    """
    found = []
    for path in paths:
        audio = recording.read(Path(path))
        legs = [utterances(audio.pcm[:, channel], audio.rate_hz) for channel in range(audio.channels)]
        if not all(legs):
            raise CallscopeError(f"{path} cannot be used for load: a channel of it holds no speech.")
        found.append((legs if len(legs) == 2 else legs * 2, audio.rate_hz))
    return found


async def generate(orders: Orders, tell: Callable[[dict[str, Any]], None]) -> Seen:
    """Carry out the orders.

    Raises:
        CallscopeError: a recording cannot be used, or the gateway or the sink refused.
    """
    spoken = voices(orders.recordings)
    calls = [2] * (orders.legs // 2) + [1] * (orders.legs % 2)
    laid_out = []
    for number, channels in enumerate(calls):
        legs, rate_hz = spoken[number % len(spoken)]
        laid_out.append(converse(legs[:channels], rate_hz, min(orders.seconds, LOOP_S), seed=number))
    seen = Seen()
    progress = _Progress(tell, seen, len(calls))
    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(_listen(orders.results, seen, counts=n == 0)) for n in range(orders.subscribers)]
        await asyncio.sleep(0.5)
        sending = [
            group.create_task(_call(orders, number, conversation, len(calls), seen, progress))
            for number, conversation in enumerate(laid_out)
        ]
        await asyncio.wait(sending, return_when=asyncio.FIRST_EXCEPTION)
        if all(task.done() and not task.cancelled() and task.exception() is None for task in sending):
            tell({"all_sent": True})
            await asyncio.sleep(SETTLE_S)
        for task in listening:
            task.cancel()
    seen.finish(orders.seconds)
    return seen


class _Progress:
    """Tells the parent how far the calls are; from the last one's connection on, latencies count."""

    def __init__(self, tell: Callable[[dict[str, Any]], None], seen: Seen, calls: int) -> None:
        self._tell = tell
        self._seen = seen
        self._waiting = calls
        self._told_s = 0.0
        seen.measure_from_ns = sys.maxsize

    def connected(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._seen.measure_from_ns = clock.wall_ns()
            self._tell({"all_connected": True})

    def sent(self, seconds: float) -> None:
        if seconds >= self._told_s + 1.0:
            self._told_s = seconds
            self._tell({"sent_s": seconds})


async def _call(
    orders: Orders, number: int, conversation: Conversation, calls: int, seen: Seen, progress: _Progress
) -> None:
    """One call, from its turn to connect until all have lasted `seconds`."""
    await asyncio.sleep(number * CONNECT_EVERY_S)
    legs = LEGS[: conversation.pcm.shape[1]]
    call_id = f"{orders.run}-{number:03d}"
    hello: dict[str, object] = {
        "type": "hello",
        "call_id": call_id,
        "encoding": "s16le",
        "rate_hz": conversation.rate_hz,
        "channels": len(legs),
    }
    hello |= {"leg": legs[0]} if len(legs) == 1 else {"legs": list(legs)}
    lasts_s = orders.seconds + (calls - number) * CONNECT_EVERY_S
    try:
        async with connect(orders.gateway, compression=None, ping_interval=None) as socket:
            await socket.send(json.dumps(hello))
            _expect(json.loads(await socket.recv()), "ready")
            progress.connected()
            async with asyncio.TaskGroup() as group:
                answers = group.create_task(_answers(socket))
                published_s = group.create_task(_speak(socket, conversation, call_id, legs, lasts_s, seen, progress))
            seen.call_ended(call_id, legs, published_s.result(), answers.result())
    except* ConnectionClosed as closed:
        raise CallscopeError(f"The gateway ended call {call_id}: {closed.exceptions[0]}") from closed
    except* OSError as error:
        raise CallscopeError(f"No gateway answers at {orders.gateway}: {error.exceptions[0]}") from error


async def _speak(
    socket: ClientConnection,
    conversation: Conversation,
    call_id: str,
    legs: tuple[str, ...],
    lasts_s: float,
    seen: Seen,
    progress: _Progress,
) -> float:
    """Send the call in real time; a chunk leaves when its last sample would have been spoken."""
    chunk = round(conversation.rate_hz * CHUNK_S)
    chunks = [conversation.pcm[at : at + chunk].tobytes() for at in range(0, len(conversation.pcm) - chunk + 1, chunk)]
    began = clock.monotonic()
    seen.call_began(call_id, legs, clock.wall_ns(), conversation.onsets, len(chunks) * CHUNK_S)
    count = round(lasts_s / CHUNK_S)
    for number in range(count):
        until = began + (number + 1) * CHUNK_S - clock.monotonic()
        if until > 0:
            await asyncio.sleep(until)
        await socket.send(chunks[number % len(chunks)])
        progress.sent((number + 1) * CHUNK_S)
    await socket.send('{"type":"end"}')
    return count * CHUNK_S


async def _answers(socket: ClientConnection) -> float:
    """Read acknowledgements until the end; the length of what is published, seconds."""
    async for text in socket:
        message = json.loads(text)
        if message["type"] == "ended":
            return float(min(leg["duration_s"] for leg in message["streams"].values()))
        if message["type"] == "error":
            raise CallscopeError(f"The gateway ended a call: {message['message']} ({message['code']})")
    raise CallscopeError("The gateway closed a connection before the call's end was confirmed.")


def _expect(message: dict[str, Any], kind: str) -> None:
    if message["type"] != kind:
        raise CallscopeError(f"The gateway refused a call: {message.get('message', message)}")


async def _listen(results: str, seen: Seen, *, counts: bool) -> None:
    """Follow all calls; every subscriber reads everything, one of them takes it down."""
    async for text in _subscribed(results):
        if counts:
            seen.result(json.loads(text), clock.wall_ns())


async def _subscribed(results: str) -> AsyncIterator[str | bytes]:
    try:
        async with connect(results, compression=None, max_queue=4096) as socket:
            await socket.send('{"type":"subscribe"}')
            async for text in socket:
                yield text
        raise CallscopeError(f"The sink at {results} ended the subscription.")
    except OSError as error:
        raise CallscopeError(f"No sink answers at {results}: {error}") from error


def main() -> None:
    """Read the orders, carry them out, tell what was seen."""
    orders = Orders(**json.loads(sys.stdin.readline()))
    lifetime.end_with_parent()

    def tell(news: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(news) + "\n")
        sys.stdout.flush()

    try:
        seen = uvloop.run(generate(orders, tell))
    except* CallscopeError as errors:
        tell({"failed": str(errors.exceptions[0])})
        sys.exit(1)
    tell({"seen": dataclasses.asdict(seen.summary())})


if __name__ == "__main__":
    main()
