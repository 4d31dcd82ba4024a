"""A publisher that keeps what it is given, and acknowledges, waits or fails as a test tells it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from callscope.errors import NotPublished
from ingest.delivery import Delivery
from ingest.publisher import CallHappening
from ingest.session import AudioRecord
from schemas.v1.events_pb2 import CallEvent


@dataclass
class Published:
    """One record of audio as it was handed in."""

    record: AudioRecord
    source: str
    arrived_ns: int
    delivery: Delivery


@dataclass
class RecordingPublisher:
    """Keeps everything in order.

    Attributes:
        log: what came, audio and events, in order.
        acknowledges: records count as delivered at once.
        open: while it is cleared, Kafka is as good as full.
        refuses: every record is refused.
        ails: what `trouble` says.
    """

    acknowledges: bool = True
    refuses: bool = False
    ails: str | None = None
    log: list[Published | CallHappening] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def queued(self) -> int:
        return 0

    @property
    def trouble(self) -> str | None:
        return self.ails

    def has_room(self, delivery: Delivery) -> bool:
        return self.open.is_set()

    async def room(self, delivery: Delivery) -> None:
        delivery.check()
        await self.open.wait()
        if self.refuses:
            raise NotPublished("Kafka took no audio for 0.1 s.")

    async def audio(self, record: AudioRecord, source: str, arrived_ns: int, delivery: Delivery) -> None:
        self.log.append(Published(record, source, arrived_ns, delivery))
        delivery.handed_over()
        if self.acknowledges:
            delivery.acknowledged(record)

    async def event(self, happening: CallHappening) -> None:
        self.log.append(happening)

    async def confirmed_event(self, happening: CallHappening) -> None:
        if self.refuses:
            raise NotPublished("Kafka did not confirm an event within 0.1 s.")
        self.log.append(happening)

    def of(self, stream: str) -> list[Published]:
        """The audio records of a stream."""
        return [p for p in self.log if isinstance(p, Published) and str(p.record.stream) == stream]

    def pcm(self, stream: str) -> NDArray[np.int16]:
        """All audio of a stream."""
        return np.frombuffer(b"".join(p.record.pcm for p in self.of(stream)), "<i2")

    def happenings(self) -> list[CallHappening]:
        """The events."""
        return [p for p in self.log if isinstance(p, CallHappening)]

    def told(self) -> list[tuple[str, str]]:
        """Name and leg of each event."""
        return [(CallEvent.Kind.Name(h.kind), h.leg) for h in self.happenings()]

    def acknowledge_all(self) -> None:
        """Everything so far is delivered now."""
        for p in self.log:
            if isinstance(p, Published):
                p.delivery.acknowledged(p.record)
