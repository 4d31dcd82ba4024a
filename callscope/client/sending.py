"""Sending a recording to the gateway in real time, or faster, as a telephony platform would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from callscope import clock
from callscope.client.recording import Recording
from callscope.client.sender import Sender, SendRefused

__all__ = ["SendRefused", "Sending", "send"]

CHUNK_S = 0.02
MAX_AHEAD_S = 5.0
"""When sending faster than real time: audio sent but not yet acknowledged, at most."""
GIVE_UP_S = 60.0
"""A gateway that stays away for so long is not waited for."""


@dataclass(slots=True)
class Sending:
    """How far a call has been sent, and how much of it is safe in Kafka.

    Attributes:
        sent_s: media time sent.
        published_s: media time that Kafka has acknowledged on every leg.
    """

    sent_s: float = 0.0
    published_s: float = 0.0


async def send(
    recording: Recording,
    gateway: str,
    call_id: str,
    legs: tuple[str, ...],
    *,
    speed: float = 1.0,
    limit_s: float | None = None,
    metadata: Mapping[str, str] | None = None,
    token: str | None = None,
    progress: Callable[[Sending], None] = lambda _: None,
) -> Sending:
    """Send a recording as one call and wait until the gateway has published all of it.

    Args:
        recording: what to send.
        gateway: the gateway's address, "ws://127.0.0.1:7070/v1/stream".
        call_id: the call's id.
        legs: one name per channel.
        speed: 1 is real time, 2 twice as fast; 0 is as fast as the gateway takes it.
        limit_s: send only so much; a shorter recording is repeated until then.
        metadata: what the call's start event shall say of it.
        token: to be let in with.
        progress: called after every chunk and at the end.

    Raises:
        SendRefused: the gateway cannot be reached, refused the call, or ended it.
    """
    state = Sending()
    async with Sender(
        gateway,
        call_id,
        legs[: recording.channels],
        rate_hz=recording.rate_hz,
        metadata=metadata,
        token=token,
        buffer_s=MAX_AHEAD_S,
        when_full="wait",
        give_up_s=GIVE_UP_S,
    ) as sender:
        chunk = round(recording.rate_hz * CHUNK_S)
        total = len(recording.pcm) if limit_s is None else round(limit_s * recording.rate_hz)
        started = clock.monotonic()
        position = 0
        while position < total:
            within = position % len(recording.pcm)
            samples = recording.pcm[within : within + min(chunk, total - position)]
            position += len(samples)
            if speed > 0:
                # A chunk goes out when its last sample would have been spoken.
                due = started + position / recording.rate_hz / speed
                await asyncio.sleep(max(0.0, due - clock.monotonic()))
            await sender.send(samples.tobytes())
            state.sent_s = position / recording.rate_hz
            state.published_s = sender.progress.acknowledged / recording.rate_hz
            progress(state)
        ended = await sender.end()
    state.published_s = min(leg["published_s"] for leg in ended["streams"].values())
    progress(state)
    return state
