"""Where every gateway hands in its streams: limits, calls and their events, the tick at which held audio leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from callscope.access import Grant
from callscope.clock import monotonic
from callscope.errors import (
    BadHello,
    Overloaded,
    StreamExists,
    TooManyFromOne,
    TooManyStreams,
)
from callscope.streams import StreamId, is_name, tenant_and_call_id, topic_call_id
from ingest import telemetry
from ingest.admission import Admission
from ingest.audio import opus
from ingest.audio.resample import RATE_HZ
from ingest.coalescing import hold_ms
from ingest.protocols.events import Consented, MarkKind, MissingReason, Opened
from ingest.publisher import CallHappening, Publisher
from ingest.source import Source
from schemas.v1.events_pb2 import CallEvent

_LOOK_MS: Final = 20
"""How often the load is looked at while nothing is held."""
_MARKS: Final[Mapping[MarkKind, CallEvent.Kind.ValueType]] = {
    "dtmf": CallEvent.DTMF,
    "held": CallEvent.HELD,
    "resumed": CallEvent.RESUMED,
    "reconnected": CallEvent.RECONNECTED,
}


class Intake:
    """The streams that are open in this gateway, and the calls they make up.

    Args:
        publisher: where the records go.
        max_streams: how many may be open at once.
        publish_timeout_s: how long the end of a stream waits for Kafka.
        streams_per_tenant: how many of these may be one tenant's; None: all.
        admission: whether new calls are taken; None: always. Further legs of calls that run are.
    """

    def __init__(
        self,
        publisher: Publisher,
        max_streams: int,
        publish_timeout_s: float,
        streams_per_tenant: int | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._admission = admission
        self._streams_per_tenant = streams_per_tenant
        self.publisher = publisher
        self.publish_timeout_s = publish_timeout_s
        self._max_streams = max_streams
        self._open: set[StreamId] = set()
        self._calls: dict[str, _Call] = {}
        self._held: dict[Source, None] = {}
        self._hold_ms = 0
        self.is_stopping = False
        """The gateway ends: nobody waits for Kafka any more where what came is on disk."""

    @property
    def holds(self) -> bool:
        """Whether audio is held for more to come; then `run` publishes it."""
        return self._hold_ms > 0

    def held(self, source: Source) -> None:
        """A source holds audio; called by `Source.audio`."""
        self._held[source] = None

    async def run(self) -> None:
        """Publish what sources hold, all of them at one tick; without it nothing is held.

        How long a tick is follows the load (`ingest.coalescing`).
        """
        next_at = monotonic()
        try:
            while True:
                self._hold_ms = hold_ms(len(self._open), self.publisher.queued)
                next_at = max(next_at + (self._hold_ms or _LOOK_MS) / 1_000, monotonic())
                await asyncio.sleep(next_at - monotonic())
                due, self._held = self._held, {}
                for source in due:
                    await source.publish_held()
        finally:
            self._hold_ms = 0

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._open)

    async def open(self, opened: Opened, grant: Grant) -> Source:
        """Begin the streams of one source.

        On the topics its call bears the tenant's name too (`callscope.streams.topic_call_id`), so that no tenant's
        calls meet another's; the source itself knows its streams by the names it gave them.

        Args:
            opened: what the source announced.
            grant: what the sender may do; the gateway has checked that publishing is among it.

        Raises:
            BadHello: a name that may not be.
            StreamExists: one of them is open already.
            TooManyStreams: the limit is reached.
            Overloaded: the workers are behind, or Kafka is away and the spool has little room left.
            TooManyFromOne: the tenant's limit is reached.
            NotPublished: Kafka did not take the events.
        """
        if opened.audio_format.encoding == "opus":
            await asyncio.to_thread(opus.load)  # the first time it takes a while, and other streams go on
        for name in (opened.call_id, *(stream.leg for stream in opened.streams)):
            if not is_name(name):
                raise BadHello(
                    f"{name[:140]!r} cannot name a call or a leg: 1 to 128 of A-Z a-z 0-9 . _ : @ + - may be in it."
                )
        ours = _on_topics(opened, grant)
        for stream, own in zip(opened.streams, ours.streams, strict=True):
            if own in self._open:
                raise StreamExists(
                    f"Stream {stream} is being received already. Wait for its end, or use another call id or leg."
                )
        if len(self._open) + len(opened.streams) > self._max_streams:
            raise TooManyStreams(
                f"This gateway receives {len(self._open)} streams, its limit is {self._max_streams}. Try another "
                "gateway, or again later."
            )
        refusal = self._admission.refusal if self._admission is not None else None
        if refusal is not None and ours.call_id not in self._calls:
            raise Overloaded(refusal)
        if self._streams_per_tenant is not None:
            held = sum(tenant_and_call_id(stream.call_id)[0] == grant.tenant for stream in self._open)
            if held + len(opened.streams) > self._streams_per_tenant:
                raise TooManyFromOne(f"This tenant sends {held} streams, its limit is {self._streams_per_tenant}.")
        self._open.update(ours.streams)
        call = self._calls.setdefault(ours.call_id, _Call())
        is_new = not call.legs
        call.legs += len(ours.streams)
        source = Source(self, ours, opened.streams)
        telemetry.streams_opened(len(opened.streams), opened.source)
        try:
            if is_new:
                await self._event(ours, CallEvent.CALL_STARTED)
            for stream in ours.streams:
                await self._event(ours, CallEvent.STREAM_STARTED, stream.leg)
                telemetry.stream_started(str(stream), opened.audio_format.encoding, opened.audio_format.rate_hz)
        except BaseException:
            self._release(ours)
            raise
        return source

    async def close(self, opened: Opened, ends: dict[StreamId, int], reason: str) -> None:
        """Tell of the end of streams whose last records have been sent; called by `Source.end`.

        Raises:
            NotPublished: Kafka did not take the events.
        """
        call = self._calls[opened.call_id]
        call.duration = max(call.duration, *ends.values())
        try:
            for stream, at in ends.items():
                telemetry.stream_ended(str(stream), at / RATE_HZ, reason)
                await self._event(opened, CallEvent.STREAM_ENDED, stream.leg, at, reason)
        finally:
            is_over = self._release(opened)
        if is_over:
            await self._event(opened, CallEvent.CALL_ENDED, "", call.duration, reason)

    async def consent(self, opened: Opened, consented: Consented, leg: str, at: int) -> None:
        """Tell of a consent, and return when it is safe in Kafka; called by `Source.consent`.

        Raises:
            NotPublished: Kafka did not take or confirm it.
        """
        await self.publisher.confirmed_event(
            CallHappening(
                kind=CallEvent.CONSENT,
                call_id=opened.call_id,
                leg=leg,
                at=at,
                source=opened.source,
                allowed=consented.allowed,
                purposes=consented.purposes,
            )
        )

    async def gap(self, opened: Opened, leg: str, at: int, samples: int, reason: MissingReason) -> None:
        """Tell of audio that is missing; called by `Source.missing`.

        Raises:
            NotPublished: Kafka did not take it.
        """
        await self.publisher.event(
            CallHappening(
                kind=CallEvent.GAP,
                call_id=opened.call_id,
                leg=leg,
                at=at,
                duration=samples,
                source=opened.source,
                reason=reason,
            )
        )

    async def mark(self, opened: Opened, kind: MarkKind, leg: str, at: int) -> None:
        """Tell of something other than sound; called by `Source.mark`.

        Raises:
            NotPublished: Kafka did not take it.
        """
        await self.publisher.event(
            CallHappening(kind=_MARKS[kind], call_id=opened.call_id, leg=leg, at=at, source=opened.source)
        )

    def _release(self, opened: Opened) -> bool:
        self._open.difference_update(opened.streams)
        telemetry.streams_closed(len(opened.streams), opened.source)
        call = self._calls[opened.call_id]
        call.legs -= len(opened.streams)
        if call.legs == 0:
            del self._calls[opened.call_id]
        return call.legs == 0

    async def _event(
        self, opened: Opened, kind: CallEvent.Kind.ValueType, leg: str = "", at: int = 0, reason: str = ""
    ) -> None:
        await self.publisher.event(
            CallHappening(
                kind=kind,
                call_id=opened.call_id,
                leg=leg,
                at=at,
                source=opened.source,
                encoding=opened.audio_format.encoding,
                rate_hz=opened.audio_format.rate_hz,
                metadata=opened.metadata,
                reason=reason,
            )
        )


class _Call:
    """A call with at least one open leg here."""

    def __init__(self) -> None:
        self.legs = 0
        self.duration = 0


def _on_topics(opened: Opened, grant: Grant) -> Opened:
    call_id = topic_call_id(grant.tenant, opened.call_id)
    return replace(opened, streams=tuple(StreamId(call_id, stream.leg) for stream in opened.streams))
