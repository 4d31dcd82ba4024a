"""What a sender keeps until the gateway has acknowledged it: bounded, on the timeline of the source."""

from __future__ import annotations

from collections import deque


class SendBuffer:
    """Audio by its place in the source's timeline, counted in samples per channel.

    Args:
        limit: samples it holds at most, more than 0.
        step_bytes: bytes of one sample of all channels.
    """

    def __init__(self, limit: int, step_bytes: int) -> None:
        self._limit = limit
        self._step = step_bytes
        self._chunks: deque[tuple[int, bytes]] = deque()
        self.first = 0
        """The oldest sample it still holds, or the next one to come."""
        self.end = 0
        """Just behind the newest."""
        self.dropped = 0
        """Samples that had to go unsent or unacknowledged because there was no room."""

    @property
    def held(self) -> int:
        """Samples it holds."""
        return self.end - self.first

    def has_room(self, samples: int) -> bool:
        """Whether so many fit without dropping any. More than the limit fit into an empty one."""
        return self.held + samples <= self._limit or not self.held

    def put(self, data: bytes) -> None:
        """Take audio in, whole samples; the oldest goes where there is no room."""
        self._chunks.append((self.end, data))
        self.end += len(data) // self._step
        while self.held > self._limit and len(self._chunks) > 1:
            at, chunk = self._chunks.popleft()
            next_first = at + len(chunk) // self._step
            self.dropped += next_first - self.first
            self.first = next_first

    def acknowledge(self, until: int) -> None:
        """What is before `until` need not be kept any more."""
        self.first = max(self.first, min(until, self.end))
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) // self._step <= self.first:
            self._chunks.popleft()

    def after(self, position: int) -> tuple[int, bytes] | None:
        """The next piece to send from `position` on.

        Returns:
            Where it begins (later than `position` if what was there is gone) and its bytes; None if there is none yet.
        """
        for at, chunk in self._chunks:
            end = at + len(chunk) // self._step
            if end > position:
                skip = max(0, position - at)
                return at + skip, chunk[skip * self._step :]
        return None
