"""Audio that comes in numbered, timed chunks, put in order and onto its track's timeline.

A chunk is numbered within its track and says when on the track's timeline it begins. Two clocks are at work: the count
of samples, which never errs, and the chunks' timestamps, which wobble by some milliseconds but know of holes. Hence:

- chunks come out in the order of their numbers. One that is early waits for the missing ones until more audio waits
  than the reorder window holds; then they are given up. What comes after that, or twice, is late: counted, left out.
- a chunk that follows in number follows in time too, unless its timestamp is ahead by more than the wobble that is
  allowed: then the source was silent for so long, and that is a hole.
- after missing numbers the hole is as long as the timestamps say; where the count of the missing agrees to within the
  wobble, exactly as long as that count.
- timestamps that fall back by a second, or leap by more than a call lasts, come from another clock: the audio goes on
  without a hole, and the new clock counts from there.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Piece: TypeAlias = bytes | int
"""What comes out: audio, or how many samples are missing."""

WOBBLE_MS: Final = 40
"""Timestamps ahead of the count of samples by no more than this are no hole."""
FALLBACK_MS: Final = 1_000
"""Timestamps behind the count of samples by more than this are another clock's."""
LEAP_MS: Final = 4 * 3_600_000
"""Timestamps ahead by more than this are another clock's. Twilio ends a call after 4 hours by itself."""
MAX_HELD: Final = 64
"""So many early chunks wait at most, whatever their timestamps say."""


class Track:
    """One track's chunks, in order and on its timeline.

    Args:
        rate_hz: samples a second.
        sample_bytes: bytes of a sample; the track has one channel.
        window_ms: how much audio may wait for a missing chunk; with more, it is given up. At least 0.

    Attributes:
        late: how many chunks came too late, or twice, and were left out.
        clock: samples that have come out, heard and missing.
    """

    def __init__(self, rate_hz: int, sample_bytes: int, window_ms: int) -> None:
        self._rate_hz = rate_hz
        self._sample_bytes = sample_bytes
        self._window = self._samples(window_ms)
        self._wobble = self._samples(WOBBLE_MS)
        self._held: dict[int, tuple[int, bytes]] = {}
        self._next = 1
        self._begun = False
        self._shift = 0
        self._last_length = 0
        self.clock = 0
        self.late = 0

    def push(self, number: int | None, timestamp_ms: int | None, data: bytes) -> list[Piece]:
        """What a chunk brings out: nothing, itself, or those that waited for it too.

        Args:
            number: its number within the track; the first is 1. None: it comes as it comes.
            timestamp_ms: when it begins, after the beginning of the timeline. None: right after the one before.
            data: a whole number of samples.
        """
        if number is None or timestamp_ms is None:
            return self._place(None, None if timestamp_ms is None else self._samples(timestamp_ms), data)
        if (self._begun and number < self._next) or number in self._held:
            self.late += 1
            return []
        at = self._samples(timestamp_ms)
        if not self._held and number <= self._next:
            return self._place(number, at, data)
        self._held[number] = (at, data)
        return self._release()

    def flush(self) -> list[Piece]:
        """What still waits; nothing will come any more that it could wait for."""
        pieces: list[Piece] = []
        for number, (at, data) in sorted(self._held.items()):
            pieces += self._place(number, at, data)
        self._held.clear()
        return pieces

    def _release(self) -> list[Piece]:
        pieces: list[Piece] = []
        while self._held:
            number = min(self._held)
            at, data = self._held[number]
            follows = number <= self._next or at + self._shift - self.clock < self._length(data) / 2
            if not follows and not self._waited_enough():
                break
            del self._held[number]
            pieces += self._place(number, at, data)
        return pieces

    def _waited_enough(self) -> bool:
        held = sum(self._length(data) for _, data in self._held.values())
        return held > self._window or len(self._held) > MAX_HELD

    def _place(self, number: int | None, at: int | None, data: bytes) -> list[Piece]:
        length = self._length(data)
        missing = 0 if at is None else self._missing_before(number, at, length)
        if number is not None:
            self._next = number + 1
        self._begun = True
        self._last_length = length
        self.clock += missing + length
        pieces: list[Piece] = [missing] if missing else []
        if data:
            pieces.append(data)
        return pieces

    def _missing_before(self, number: int | None, at: int, length: int) -> int:
        ahead = at + self._shift - self.clock
        if ahead > self._samples(LEAP_MS) or ahead < -self._samples(FALLBACK_MS):
            self._shift -= ahead
            return 0
        if not self._begun:
            return max(0, ahead)
        if number is not None and number > self._next and ahead >= length / 2:
            counted = (number - self._next) * self._last_length
            return counted if abs(ahead - counted) <= self._wobble else ahead
        return ahead if ahead > self._wobble else 0

    def _length(self, data: bytes) -> int:
        return len(data) // self._sample_bytes

    def _samples(self, milliseconds: int) -> int:
        return milliseconds * self._rate_hz // 1_000
