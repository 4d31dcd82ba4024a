"""How far one stream's records are safe in Kafka."""

from __future__ import annotations

from callscope.errors import NotPublished
from ingest.session import AudioRecord


class Delivery:
    """One stream's records on their way: handed over, then acknowledged in whatever order, or lost.

    Not for threads: all calls come from one event loop.
    """

    def __init__(self) -> None:
        self._handed_over = 0
        self._next_seq = 0
        self._early: dict[int, int] = {}
        self._settled = 0
        self.published = 0
        """Media time up to which Kafka has acknowledged every record, samples."""
        self.failure: str | None = None
        """Why a record was lost, if one was; `published` does not advance beyond it."""

    @property
    def in_flight(self) -> int:
        """Records handed over of which nothing has been heard."""
        return self._handed_over - self._settled

    def handed_over(self) -> None:
        """A record was given to the producer."""
        self._handed_over += 1

    def acknowledged(self, record: AudioRecord) -> None:
        """Kafka has the record."""
        self._settled += 1
        self._early[record.seq] = record.end
        while self._next_seq in self._early:
            self.published = self._early.pop(self._next_seq)
            self._next_seq += 1

    def lost(self, reason: str) -> None:
        """A record was given up."""
        self._settled += 1
        self.failure = self.failure or reason

    def check(self) -> None:
        """Nothing, if no record was lost.

        Raises:
            NotPublished: one was.
        """
        if self.failure is not None:
            raise NotPublished(
                f"Kafka did not take the audio: {self.failure}. What was acknowledged is safe; send the rest later."
            )
