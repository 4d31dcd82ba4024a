"""A recording in pieces, each when a telephone would have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import soxr
from numpy.typing import NDArray

from callscope import clock
from callscope.client.recording import Recording


async def paced(recording: Recording, speed: float, piece_s: float = 0.02) -> AsyncIterator[NDArray[np.int16]]:
    """The pieces of a recording, each at the time its last sample would have been spoken.

    Args:
        recording: of any rate and number of channels.
        speed: 1 is real time, 2 twice as fast; 0 is without waiting.
        piece_s: length of a piece; the last one may be shorter.

    Yields:
        int16, shape (samples, channels).
    """
    step = round(recording.rate_hz * piece_s)
    started = clock.monotonic()
    for at in range(0, len(recording.pcm), step):
        piece = recording.pcm[at : at + step]
        if speed > 0:
            due = started + (at + len(piece)) / recording.rate_hz / speed
            await asyncio.sleep(max(0.0, due - clock.monotonic()))
        yield piece


def at_rate(recording: Recording, rate_hz: int) -> Recording:
    """The recording at another rate; itself where it has that rate."""
    if rate_hz == recording.rate_hz:
        return recording
    pcm = soxr.resample(recording.pcm, recording.rate_hz, rate_hz)
    return Recording(recording.name, np.ascontiguousarray(pcm), rate_hz)


def leg(recording: Recording, channel: int) -> Recording:
    """One channel of it."""
    return Recording(recording.name, np.ascontiguousarray(recording.pcm[:, channel : channel + 1]), recording.rate_hz)
