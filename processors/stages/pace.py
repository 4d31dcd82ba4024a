"""Tells live streams from recordings that are sent faster than they were spoken: nobody is kept waiting by these."""

from __future__ import annotations

import math
from typing import Final

from callscope.streams import StreamId
from processors.records import RATE_HZ, AudioFrame, FeatureWindow, Record, SpeechFrame, WindowKind

AHEAD_S: Final = 0.25
"""A stream that has gained so much on the clock lately is not spoken as it comes."""
LATELY_S: Final = 2.0
"""Time constant in which a gain is forgotten: audio that was held while a call was set up comes at once, and the rest
of it in time."""
_STREAMS: Final = 10_000


class Pace:
    """Remembers how far each stream has gained on the clock."""

    def __init__(self) -> None:
        """Starts knowing none."""
        self._streams: dict[StreamId, tuple[int, int, float]] = {}

    def is_live(self, record: Record, arrived_ns: int) -> bool:
        """Whether a record's audio was spoken about when it came.

        Args:
            record: the next one of its stream.
            arrived_ns: when its audio arrived, nanoseconds; 0: unknown, which counts as live.
        """
        end = _end(record)
        last_ns, last_end, ahead_s = self._streams.get(record.stream) or (arrived_ns, end, 0.0)
        passed_s = max(0.0, (arrived_ns - last_ns) / 1e9)
        ahead_s = ahead_s * math.exp(-passed_s / LATELY_S) + (end - last_end) / RATE_HZ - passed_s
        if _is_last(record):
            self._streams.pop(record.stream, None)
        else:
            self._streams[record.stream] = max(arrived_ns, last_ns), end, ahead_s
            if len(self._streams) > _STREAMS:
                del self._streams[next(iter(self._streams))]
        return not arrived_ns or ahead_s <= AHEAD_S


def _end(record: Record) -> int:
    """Media time of the end of its audio, samples."""
    match record:
        case AudioFrame() | SpeechFrame():
            return record.start + len(record.pcm)
        case FeatureWindow():
            return record.start + record.duration
        case _:
            return 0


def _is_last(record: Record) -> bool:
    match record:
        case AudioFrame():
            return record.last
        case SpeechFrame():
            return record.stream_ended
        case FeatureWindow():
            return record.kind is WindowKind.STREAM_END
        case _:
            return False
