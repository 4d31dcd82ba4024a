"""One source's open streams: conversion, what is held for more to come, holes, back-pressure, the end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from callscope.clock import monotonic
from callscope.errors import BadAudio, NotPublished
from callscope.streams import StreamId
from ingest import telemetry
from ingest.audio.canonical import CanonicalAudio
from ingest.audio.resample import RATE_HZ
from ingest.delivery import Delivery
from ingest.protocols.events import Consented, Marked, MissingReason, Opened
from ingest.session import AudioRecord, Session

if TYPE_CHECKING:
    from ingest.intake import Intake

_SLICE_S: Final = 0.5
"""A long message is converted in slices of this much audio, and other connections have their turn between them."""
_DELIVERY_POLL_S: Final = 0.01
_LONGEST_HOLE_S: Final = 24 * 3600
_NS_PER_SAMPLE: Final = 1_000_000_000 // RATE_HZ


class Source:
    """One source's open streams, one per channel. Every source that was opened must be ended, once.

    Its own names for its streams (`names`) are what it and its client use; on the topics they may be others.

    Attributes:
        padded: after the end, how many samples of silence fill each stream's last frame.
    """

    def __init__(self, intake: Intake, opened: Opened, names: tuple[StreamId, ...]) -> None:
        self._intake = intake
        self._publisher = intake.publisher
        self._opened = opened
        self._names = dict(zip(opened.streams, names, strict=True))
        self._canonical = CanonicalAudio(opened.audio_format)
        self._captured: tuple[int, int] | None = None
        self._sessions = [Session(stream) for stream in opened.streams]
        self._deliveries = {stream: Delivery() for stream in opened.streams}
        step = opened.audio_format.step_bytes
        self._slice_bytes = int(opened.audio_format.rate_hz * _SLICE_S) * step
        self._overlap_bytes = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_since_ns = 0
        self._publishing = asyncio.Lock()
        self._failure: NotPublished | None = None
        self._unsent: deque[tuple[AudioRecord, int]] = deque()
        """Records that found no room, with their arrival; they go before anything else."""
        self._is_ending = False
        self.padded = 0

    @property
    def taken(self) -> int:
        """The source's samples per channel so far, heard and missing, at its own rate."""
        held = self._held_bytes + self._canonical.incomplete_bytes
        return self._canonical.taken + held // self._opened.audio_format.step_bytes

    async def audio(self, data: bytes, arrived_ns: int, captured_ns: int = 0) -> None:
        """Publish the frames that `data` completes, now or with what comes next; returns when there is room for more.

        Args:
            data: audio in the format that was announced, cut anywhere.
            arrived_ns: when it arrived, nanoseconds since the epoch.
            captured_ns: when the source captured its first sample, if it says so; else 0.

        Raises:
            NotPublished: Kafka does not take the audio, or lost a record.
        """
        if self._overlap_bytes:
            dropped = min(self._overlap_bytes, len(data))
            self._overlap_bytes -= dropped
            data = data[dropped:]
        self._raise_failure()
        if captured_ns:
            await self._release()
            self._captured = self._canonical.position, captured_ns
        if not self._held:
            self._held_since_ns = arrived_ns
        self._held.append(data)
        self._held_bytes += len(data)
        if self._intake.holds and self._held_bytes < self._slice_bytes:
            self._intake.held(self)
        else:
            await self._release()

    async def publish_held(self) -> None:
        """Publish what is held, unless the source has to wait for room or does so already; called at every tick."""
        if self._publishing.locked() or not all(map(self._publisher.has_room, self._deliveries.values())):
            self._intake.held(self)
            return
        try:
            await self._release()
        except NotPublished as failure:  # told to the source with its next audio, or when it is checked
            self._failure = failure

    async def _release(self) -> None:
        """Publish what is held, in slices; nothing overtakes it, and what finds no room goes first the next time."""
        async with self._publishing:
            if self._unsent:
                await self._send_unsent()
            data, arrived_ns = b"".join(self._held), self._held_since_ns
            self._held.clear()
            self._held_bytes = 0
            at = 0
            try:
                while at < len(data):
                    if at:
                        await asyncio.sleep(0)
                    piece = data[at : at + self._slice_bytes]
                    at += len(piece)
                    await self._publish(self._canonical.push(piece), arrived_ns)
            finally:
                if rest := data[at:]:
                    self._held.insert(0, rest)
                    self._held_bytes += len(rest)

    async def missing(self, samples: int, reason: MissingReason, arrived_ns: int) -> None:
        """A piece of the source's timeline will not come.

        What is complete before it is published, a started frame filled up with silence; the media clock moves on; the
        next record says so in `gap_before`, and a GAP event tells it at once. A hole of less than a frame (20 ms) is
        silence, and no event.

        Args:
            samples: how much, per channel, at the source's rate, not negative.
            reason: why.
            arrived_ns: when that was noticed, nanoseconds since the epoch.

        Raises:
            BadAudio: the hole is longer than a day.
            NotPublished: Kafka does not take what came before it, or the event.
        """
        if samples > _LONGEST_HOLE_S * self._opened.audio_format.rate_hz:
            raise BadAudio(f"{samples} samples are said to be missing: more than a day.")
        await self._release()
        hole = self._canonical.skip(samples)
        self._captured = None
        try:
            await self._publish(hole.frames, arrived_ns)
        finally:
            for session in self._sessions:
                session.skip(hole.gap)
        if not hole.gap:
            return
        telemetry.gap(hole.samples * len(self._sessions) / RATE_HZ, reason)
        for session in self._sessions:
            await self._intake.gap(self._opened, session.stream.leg, hole.start, hole.samples, reason)

    async def place(self, sample: int, arrived_ns: int) -> None:
        """The audio that follows begins at this sample of the source's timeline; bytes of a cut sample are dropped.

        So much of it as has been taken already is dropped; what is missing before it is a hole, "lost".

        Args:
            sample: per channel, at the source's rate, not negative.
            arrived_ns: when that was said, nanoseconds since the epoch.

        Raises:
            BadAudio: the hole is longer than a day.
            NotPublished: as `missing` does.
        """
        await self._release()
        self._canonical.drop_incomplete()
        self._overlap_bytes = max(0, self.taken - sample) * self._opened.audio_format.step_bytes
        if sample > self.taken:
            await self.missing(sample - self.taken, "lost", arrived_ns)

    async def mark(self, marked: Marked) -> None:
        """Tell of something other than sound that happened at this point of the audio.

        Raises:
            NotPublished: Kafka did not take the event.
        """
        await self._release()
        for session in self._sessions:
            if marked.leg in (None, session.stream.leg):
                await self._intake.mark(self._opened, marked.kind, session.stream.leg, session.clock)

    async def consent(self, consented: Consented) -> dict[StreamId, int]:
        """Tell what a speaker allowed or refused; returns when that is safe in Kafka, before any later audio is sent.

        Returns:
            Each stream it is about, with the media time from which on it holds, samples.

        Raises:
            NotPublished: Kafka did not take or confirm it.
        """
        await self._release()
        since = {
            session.stream: session.clock for session in self._sessions if consented.leg in (None, session.stream.leg)
        }
        for stream, at in since.items():
            await self._intake.consent(self._opened, consented, stream.leg, at)
        return {self._names[stream]: at for stream, at in since.items()}

    async def end(self, reason: str, arrived_ns: int, *, whole: bool) -> None:
        """Publish what is left, the last frame filled up with silence, and tell of the end.

        Args:
            reason: why, for `call.events`.
            arrived_ns: when the end was noticed.
            whole: the source says it sent everything, so that half a sample is an error.

        Raises:
            BadAudio: `whole`, and bytes are left that make up no sample; all else has been published.
            NotPublished: Kafka did not take the rest.
        """
        problem: Exception | None = None
        self._is_ending = True
        try:
            await self._release()
        except NotPublished as failure:
            problem = failure
        incomplete = self._canonical.incomplete_bytes if whole else 0
        if incomplete:
            audio_format = self._opened.audio_format
            problem = BadAudio(
                f"The audio ends inside a sample: {incomplete} byte(s) are left over, and one sample of "
                f"{audio_format.channels} channel(s) of {audio_format.encoding} has {audio_format.step_bytes}."
            )
            reason = f"bad audio: {problem}"
        try:
            frames, self.padded = self._canonical.flush()
            for record in _by_time(session.end(frames[:, i]) for i, session in enumerate(self._sessions)):
                await self._send(record, arrived_ns)
        finally:
            await self._intake.close(
                self._opened, {session.stream: session.clock for session in self._sessions}, reason
            )
        if problem is not None:
            raise problem

    def published(self) -> dict[StreamId, int]:
        """Media time up to which each stream is safe in Kafka, samples."""
        return {self._names[stream]: delivery.published for stream, delivery in self._deliveries.items()}

    def kept(self) -> dict[StreamId, int]:
        """Media time up to which each stream is in Kafka or on this machine's disk, samples."""
        return {self._names[stream]: delivery.kept for stream, delivery in self._deliveries.items()}

    @property
    def can_go_on(self) -> bool:
        """Whether no record was lost, so that a client which was told `NotPublished` may go on later."""
        return all(delivery.failure is None for delivery in self._deliveries.values())

    def check(self) -> None:
        """Nothing, if all audio found room and no record was lost.

        Raises:
            NotPublished: some did not, or one was.
        """
        self._raise_failure()
        for delivery in self._deliveries.values():
            delivery.check()

    def _raise_failure(self) -> None:
        """Tell once of what `publish_held` met with; the records are still there."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    async def delivered(self, *, in_kafka: bool = False) -> None:
        """Return when everything is safe: acknowledged by Kafka, or, while that is away, on this machine's disk.

        Args:
            in_kafka: the disk is not enough. While everything is on it this waits for Kafka, however long that takes.

        Raises:
            NotPublished: not all was acknowledged or written in time, a record was lost, or the gateway ends.
        """
        deadline = monotonic() + self._intake.publish_timeout_s
        while not all(delivery.is_settled for delivery in self._deliveries.values()):
            is_kept = all(delivery.is_kept for delivery in self._deliveries.values())
            if is_kept and not in_kafka:
                break
            if is_kept and self._intake.is_stopping:
                raise NotPublished(
                    "The gateway ends while Kafka is away. All that came is kept on its disk, and is delivered when a "
                    "gateway starts there again: do not send it again."
                )
            if not is_kept and monotonic() > deadline:
                raise NotPublished(
                    f"Kafka did not acknowledge the end within {self._intake.publish_timeout_s:g} s. What was "
                    "acknowledged is safe; send the rest later."
                )
            await asyncio.sleep(_DELIVERY_POLL_S)
        self.check()

    async def _publish(self, frames: NDArray[np.int16], arrived_ns: int) -> None:
        records = _by_time(session.audio(frames[:, i]) for i, session in enumerate(self._sessions))
        sent = 0
        try:
            for record in records:
                await self._room(record)
                await self._send(record, arrived_ns)
                sent += 1
        finally:
            if sent < len(records):
                self._unsent.extend((record, arrived_ns) for record in records[sent:])

    async def _send_unsent(self) -> None:
        while self._unsent:
            record, arrived_ns = self._unsent[0]
            await self._room(record)
            await self._send(record, arrived_ns)
            self._unsent.popleft()

    async def _room(self, record: AudioRecord) -> None:
        if not self._is_ending:  # the little that is left of a stream then is always taken
            await self._publisher.room(self._deliveries[record.stream])

    async def _send(self, record: AudioRecord, arrived_ns: int) -> None:
        if self._captured is not None:
            at, captured_ns = self._captured
            record = replace(record, captured_ns=captured_ns + (record.start - at) * _NS_PER_SAMPLE)
        await self._publisher.audio(record, self._opened.source, arrived_ns, self._deliveries[record.stream])
        telemetry.audio(len(record.pcm) / 2 / RATE_HZ)


def _by_time(legs: Iterable[list[AudioRecord]]) -> list[AudioRecord]:
    """The records of legs that were cut alike, the first of each leg first."""
    return [record for together in zip(*legs, strict=True) for record in together]
