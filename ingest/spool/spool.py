"""Keeps records on disk while Kafka is away, and delivers them in order when it is back; the shell around `lane.py`.

Costs next to nothing while Kafka is there: `tick` looks at the oldest record under way of each partition.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from callscope.clock import monotonic
from callscope.config import Spool as SpoolConfig
from callscope.errors import NotPublished
from ingest import telemetry
from ingest.delivery import Delivery, Receipt
from ingest.spool.folder import Done, Job, SpoolFolder
from ingest.spool.lane import Item, Lane, Read, Write

PENDING_BYTES: Final = 32 << 20
"""What may wait in memory for the disk: ten seconds of 100 legs. Then sources are held back."""
MOST_PENDING_BYTES: Final = 2 * PENDING_BYTES
"""And with the ends of streams, which are not held back."""
HEAD_START_S: Final = 15.0
CATCH_UP: Final = 2.0
"""While Kafka is away a stream may bring this much audio at once, and then so many times faster than it is spoken: a
recording sent at full speed must not use up what live calls need."""
TURN_RECORDS: Final = 300
"""Handed to the Kafka client a tick: about two milliseconds of work in every ten."""
RETRY_S: Final = 1.0
_ROOM_POLL_S: Final = 0.05
_RATE_HZ: Final = 16_000


class Spool:
    """The lanes of all partitions, and the thread that writes and reads for them.

    Args:
        config: sizes and times.
        root: where the folders of gateways of this Kafka cluster are.
        lanes: one a partition; records of those that are not `direct` belong here.
        hand_over: gives a record to the Kafka client, and calls `Lane.handed_over`; False where that has no room.
        timeout_s: how long a source waits for room.
        tell: told when it changes whether Kafka is away, or why there is no room for new streams (None: there is).
    """

    def __init__(
        self,
        config: SpoolConfig,
        root: Path,
        lanes: list[Lane],
        hand_over: Callable[[int, Item], bool],
        timeout_s: float,
        tell: Callable[[bool, str | None], None],
    ) -> None:
        self._config = config
        self._folder = SpoolFolder(root)
        self._lanes = lanes
        self._hand_over = hand_over
        self._timeout_s = timeout_s
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, "spool")
        self._receipts: WeakValueDictionary[int, Receipt] = WeakValueDictionary()
        self._numbers = itertools.count(secrets.randbits(62))  # others than those of the process before
        self._job: asyncio.Task[None] | None = None
        self._resume_at = 0.0
        self._synced_at = 0.0
        self._unsynced = False
        self._free_bytes: int | None = None
        self._began: float | None = None
        self._undone = Job()
        self._told: tuple[bool, str | None] = (False, None)
        self.failure: str | None = None
        """Why the disk cannot be written or read at the moment."""

    def open(self) -> None:
        """Take over what earlier gateways left for this cluster; blocks while that is looked through.

        Raises:
            OSError: the folder cannot be used.
        """
        found = self._folder.open()
        for segment in found:
            if segment.partition >= len(self._lanes):
                telemetry.spool_orphaned(segment.partition, segment.records)
                continue
            lane = self._lanes[segment.partition]
            lane.recover(segment.number, segment.delivered, segment.length, segment.records)
        if records := self.records:
            telemetry.spool_found(records, self.used_bytes)

    @property
    def is_used(self) -> bool:
        """Whether records of any partition go by the spool."""
        return self._began is not None

    @property
    def records(self) -> int:
        """How many wait here."""
        return sum(lane.records for lane in self._lanes)

    @property
    def used_bytes(self) -> int:
        """On disk, and in memory on the way there."""
        return sum(lane.disk_bytes + lane.pending_bytes for lane in self._lanes)

    def keep(self, lane: Lane, item: Item) -> None:
        """Take a record of a lane that is not direct. Who has to wait for `room` before has done so.

        Raises:
            NotPublished: not even what is set aside for the ends of streams is left.
        """
        if self._pending_bytes + item.size > MOST_PENDING_BYTES:
            raise NotPublished(
                f"The record cannot be kept until Kafka is back: {self._full() or 'the disk is too slow'}."
            )
        self._note(item)
        lane.keep(item)

    def has_room(self, delivery: Delivery) -> bool:
        """Whether `room` would return at once."""
        lane = self._lane_of(delivery)
        return lane is None or (self._full() is None and self._in_time(lane, delivery))

    async def room(self, delivery: Delivery) -> None:
        """Return when a stream may bring another record.

        Raises:
            NotPublished: there was no room in time; it says why.
        """
        deadline: float | None = None
        while (lane := self._lane_of(delivery)) is not None:
            full = self._full()
            if full is None and self._in_time(lane, delivery):
                return
            now = monotonic()
            if deadline is None:
                telemetry.backpressure()
                deadline = now + self._timeout_s
            if full is None:
                deadline = now + self._timeout_s
            elif now > deadline:
                telemetry.spool_refused(full)
                raise NotPublished(
                    f"Kafka is away, and the gateway can keep no more audio: {full}. What had come before is kept and "
                    "will be delivered; send the rest later."
                )
            await asyncio.sleep(_ROOM_POLL_S)

    def tick(self, now: float) -> None:
        """To be called often, by the event loop: moves records along."""
        for lane in self._lanes:
            for copy in lane.look(now, self._config.after_s):
                self._note(copy)
        used = not all(lane.direct for lane in self._lanes)
        if used and self._began is None:
            self._began = now
            telemetry.spool_began(sum(lane.away for lane in self._lanes), self._config.after_s)
        if self._began is not None:
            self._deliver()
            if self._job is None and now >= self._resume_at:
                self._start(now)
            self._look_after(now)
            if not used and self._job is None:
                telemetry.spool_ended(now - self._began)
                self._began = self.failure = None

    @property
    def trouble(self) -> str | None:
        """What is wrong, in a sentence; None if nothing is."""
        if self._began is None:
            return None
        away = sum(lane.away for lane in self._lanes)
        state = (
            f"Kafka acknowledges nothing of {away} partition(s)"
            if away
            else "Kafka is back, and is being caught up with"
        )
        said = f"{state}; {self.records} records ({self.used_bytes >> 20} MiB) wait on disk"
        return f"{said}, for {monotonic() - self._began:.0f} s" + (f"; {full}" if (full := self._full()) else "")

    async def close(self) -> int:
        """Write down all that Kafka has not acknowledged; nothing else may run any more.

        Returns:
            How many records could not be written.
        """
        if self._job is not None:
            await self._job
        lost = 0
        last = Job(sync=True)
        for partition, lane in enumerate(self._lanes):
            for copy in lane.copy_under_way():
                self._note(copy)
            while (write := lane.last_write()) is not None:
                done = await self._do(Job({partition: write.pieces}))
                if partition not in done.written:
                    lane.not_written(write)
                    telemetry.spool_failed(str(done.error))
                    break
                lane.written(write)
            lost += lane.pending
            self._tidy(partition, lane, last)
        await self._do(last)
        if left := self.used_bytes:
            telemetry.spool_left(left)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._folder.close)
        self._thread.shutdown()
        return lost

    def _note(self, item: Item) -> None:
        """From now on the record goes by the spool."""
        if item.receipt is not None:
            item.owner = item.receipt.spool_number or self._number(item.receipt)
            item.receipt.spooled(item.samples)

    def _number(self, receipt: Receipt) -> int:
        receipt.spool_number = next(self._numbers)
        self._receipts[receipt.spool_number] = receipt
        return receipt.spool_number

    @property
    def _pending_bytes(self) -> int:
        return sum(lane.pending_bytes for lane in self._lanes)

    def _lane_of(self, delivery: Delivery) -> Lane | None:
        """A stream's lane, if its records go by the spool."""
        if delivery.partition is None:
            return None
        lane = self._lanes[delivery.partition]
        return None if lane.direct else lane

    def _in_time(self, lane: Lane, delivery: Delivery) -> bool:
        allowed_s = HEAD_START_S + CATCH_UP * (monotonic() - lane.since)
        return delivery.spooled_samples <= allowed_s * _RATE_HZ

    def _room_bytes(self) -> int:
        room = self._config.max_bytes - self.used_bytes
        return room if self._free_bytes is None else min(room, self._free_bytes - self._pending_bytes)

    def _full(self) -> str | None:
        """Why no more can be taken; None if it can."""
        if self.failure is not None:
            return f"its disk fails ({self.failure})"
        if self._config.max_bytes <= self.used_bytes:
            return f"its spool is full ({self._config.max_bytes >> 20} MiB)"
        if self._pending_bytes > PENDING_BYTES:
            return "its disk is too slow"
        return None

    def _look_after(self, now: float) -> None:
        """Say how it is, to metrics and to the admission of new streams."""
        telemetry.spool(self.used_bytes, self.records, now - self._began if self._began is not None else 0.0)
        needed = self._config.max_bytes * (1 - self._config.refuse_at)
        low = any(not lane.direct for lane in self._lanes) and (self.failure is not None or self._room_bytes() < needed)
        why = (self._full() or "little room is left") if low else None
        before, self._told = self._told, (any(lane.away for lane in self._lanes), why)
        if (why is None) != (before[1] is None):
            telemetry.spool_admission(why)
        if self._told != before:
            self._tell(*self._told)

    def _deliver(self) -> None:
        """Hand to the Kafka client what is due, each partition in turn."""
        left = TURN_RECORDS
        busy = True
        while busy and left > 0:
            busy = False
            for partition, lane in enumerate(self._lanes):
                item = lane.next_up()
                if item is None:
                    continue
                if not self._hand_over(partition, item):
                    return
                busy, left = True, left - 1

    def _start(self, now: float) -> None:
        """Give the thread its next job, if there is one."""
        job, writes, reads = self._undone, dict[int, Write](), list[tuple[int, Read]]()
        self._undone = Job()
        for partition, lane in enumerate(self._lanes):
            if (write := lane.next_write()) is not None:
                writes[partition] = write
                job.writes[partition] = write.pieces
                self._unsynced = True
            elif (read := lane.next_read()) is not None:
                reads.append((partition, read))
                job.reads.append((partition, read.segment, read.offset, read.size))
            self._tidy(partition, lane, job)
        job.sync = self._unsynced and now - self._synced_at >= self._config.sync_s
        if job.sync:
            self._synced_at, self._unsynced = now, False
        if job:
            self._job = asyncio.create_task(self._run(job, writes, reads))

    def _tidy(self, partition: int, lane: Lane, job: Job) -> None:
        job.removes += [(partition, number) for number in lane.removable()]
        job.marks += [(partition, *mark) for mark in lane.marks()]

    async def _run(self, job: Job, writes: dict[int, Write], reads: list[tuple[int, Read]]) -> None:
        try:
            done = await self._do(job)
            for partition, write in writes.items():
                if partition in done.written:
                    self._lanes[partition].written(write)
                    for item, *_ in write.items:
                        if item.receipt is not None:
                            item.receipt.kept_to(item.seq, item.end)
                else:
                    self._lanes[partition].not_written(write)
            for partition, read in reads:
                self._was_read(partition, read, done)
            self._free_bytes = done.free_bytes if done.free_bytes is not None else self._free_bytes
            if done.error is not None:  # doing any of these twice does no harm
                self._undone = Job(marks=job.marks, removes=job.removes)
                self._unsynced = True
            self._note_failure(done.error)
        finally:
            self._job = None

    def _was_read(self, partition: int, read: Read, done: Done) -> None:
        lane = self._lanes[partition]
        if (partition, read.segment) not in done.read:
            lane.not_read()
            return
        records, more = done.read[partition, read.segment]
        frames = [
            (
                Item(r.topic, r.key, r.value, r.owner, r.seq, r.end, r.samples, receipt=self._receipts.get(r.owner)),
                end,
            )
            for r, end in records
        ]
        if given_up := lane.was_read(read, frames, more):
            telemetry.spool_torn(f"partition {partition}, segment {read.segment}", given_up)

    async def _do(self, job: Job) -> Done:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._folder.work, job)

    def _note_failure(self, error: OSError | None) -> None:
        failure = None if error is None else str(error)
        if failure is not None:
            self._resume_at = monotonic() + RETRY_S
        if failure != self.failure:
            self.failure = failure
            if failure is not None:
                telemetry.spool_failed(failure)
            else:
                telemetry.spool_mended()
