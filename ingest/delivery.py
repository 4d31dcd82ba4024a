"""How far one stream's records are safe: in Kafka, or in the meantime on the gateway's disk."""

from __future__ import annotations

from callscope.errors import NotPublished
from ingest.session import AudioRecord


class Receipt:
    """Is told what becomes of records that were given away. This one does not care.

    Not for threads: all calls come from one event loop.
    """

    spool_number = 0
    """What the spool calls it; 0 while it has had nothing of it."""

    def acknowledged_to(self, seq: int, end: int) -> None:
        """Kafka has a record.

        Args:
            seq: its number in its stream.
            end: media time just after its last sample.
        """

    def lost(self, reason: str) -> None:
        """A record was given up."""

    def spooled(self, samples: int) -> None:
        """A record of so much audio goes by the spool."""

    def unspooled(self, samples: int) -> None:
        """Kafka has it, or it was given up."""

    def kept_to(self, seq: int, end: int) -> None:
        """A record, and all of its stream before it, are on the gateway's disk or in Kafka; as `acknowledged_to`."""


class Delivery(Receipt):
    """One stream's records on their way: handed over, then acknowledged in whatever order, or lost."""

    def __init__(self) -> None:
        self.partition: int | None = None
        """Where the stream's records go; None before the first."""
        self._handed_over = 0
        self._next_seq = 0
        self._early: dict[int, int] = {}
        self._settled = 0
        self._spooled = 0
        self._kept_records = 0
        self._kept = 0
        self.spooled_samples = 0
        """How much audio waits in the spool, or is under way from there."""
        self.published = 0
        """Media time up to which Kafka has acknowledged every record, samples."""
        self.failure: str | None = None
        """Why a record was lost, if one was; `published` does not advance beyond it."""

    @property
    def in_flight(self) -> int:
        """Records handed over of which nothing has been heard, without those that go by the spool."""
        return self._handed_over - self._settled - self._spooled

    @property
    def is_settled(self) -> bool:
        """Whether something has been heard of every record."""
        return self._handed_over == self._settled

    @property
    def kept(self) -> int:
        """Media time up to which every record is in Kafka or on the gateway's disk, samples."""
        return max(self.published, self._kept)

    @property
    def is_kept(self) -> bool:
        """Whether that is true of all records that were handed over."""
        return max(self._next_seq, self._kept_records) >= self._handed_over

    def handed_over(self) -> None:
        """A record was given to the producer, or to the spool."""
        self._handed_over += 1

    def acknowledged(self, record: AudioRecord) -> None:
        """Kafka has the record."""
        self.acknowledged_to(record.seq, record.end)

    def acknowledged_to(self, seq: int, end: int) -> None:
        """See `Receipt.acknowledged_to`."""
        self._settled += 1
        self._early[seq] = end
        while self._next_seq in self._early:
            self.published = self._early.pop(self._next_seq)
            self._next_seq += 1

    def lost(self, reason: str) -> None:
        """See `Receipt.lost`."""
        self._settled += 1
        self.failure = self.failure or reason

    def spooled(self, samples: int) -> None:
        """See `Receipt.spooled`."""
        self._spooled += 1
        self.spooled_samples += samples

    def unspooled(self, samples: int) -> None:
        """See `Receipt.unspooled`."""
        self._spooled -= 1
        self.spooled_samples -= samples

    def kept_to(self, seq: int, end: int) -> None:
        """See `Receipt.kept_to`."""
        self._kept_records, self._kept = seq + 1, end

    def check(self) -> None:
        """Nothing, if no record was lost.

        Raises:
            NotPublished: one was.
        """
        if self.failure is not None:
            raise NotPublished(
                f"Kafka did not take the audio: {self.failure}. What was acknowledged is safe; send the rest later."
            )
