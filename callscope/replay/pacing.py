"""When a record is due in a replay that is not to go as fast as it can. Pure."""

from __future__ import annotations

from typing import Final

from callscope.streams import StreamId
from processors.records import RATE_HZ, AudioFrame, Envelope
from processors.stages.arrival_clock import ArrivalClock

FAR: Final = 60 * RATE_HZ
"""A record that begins so much later than its stream's audio is not waited for: that time may be wrong."""


class Pacing:
    """Each stream begins when it did, and goes on by its media time.

    Times of more than 10 s in which no audio came at all are shortened to that (`ArrivalClock`).

    Args:
        speed: 1: as it was; 2: twice as fast.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._clock = ArrivalClock()
        self._streams: dict[StreamId, tuple[float, int]] = {}
        """When a stream's media time 0 is due, seconds; and where its audio ends so far."""

    def due_s(self, envelope: Envelope) -> float:
        """When the next record of audio is due, in seconds from the beginning.

        Args:
            envelope: records of all streams, in the order of their arrival.
        """
        frame = envelope.record
        assert isinstance(frame, AudioFrame)
        now_ns = self._clock.heard(envelope.ledger.arrived_ns)
        began_s, heard_to = self._streams.get(frame.stream, (now_ns / 1e9 - frame.start / RATE_HZ, frame.start))
        end = frame.start + len(frame.pcm)
        if end <= heard_to + FAR:
            heard_to = max(heard_to, end)
        if frame.last:
            self._streams.pop(frame.stream, None)
        else:
            self._streams[frame.stream] = began_s, heard_to
        return (began_s + heard_to / RATE_HZ) / self._speed
