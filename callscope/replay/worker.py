"""`python -m callscope.replay.worker`: a process that replays its share of a run's partitions.

Its orders come as a line of JSON on standard input; it tells how far it is in lines of JSON on standard output, and
keeps it in the run's folder. On SIGTERM it makes safe what it has, and leaves.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from callscope import clock, lifetime, logs
from callscope.config import Settings, load
from callscope.errors import BadReplay, CallscopeError
from callscope.replay.destinations import destination_of
from callscope.replay.digest import RESULTS, Digests
from callscope.replay.joining import Joining
from callscope.replay.pacing import Pacing
from callscope.replay.partition import Partition, is_wanted
from callscope.replay.plan import Plan, RunFolder
from callscope.replay.sources import Source, Taken, source_of
from callscope.streams import StreamId
from processors import wire
from processors.app import build_pipeline
from processors.records import RATE_HZ, AudioFrame, Consent, Envelope, InsightsEnd

CHUNK: Final = 256
"""Records that are taken from a partition at once, where nothing is paced."""
AT_ONCE: Final = 8
"""Partitions that are read beside one another, where nothing is paced: their streams are judged together."""
CHECKPOINT_S: Final = 10.0
NEWS_S: Final = 0.25
NICENESS: Final = 10
"""What runs live on the same machine goes first."""
_RESULT_NAMES: Final = frozenset(topic.name for topic in RESULTS)


@dataclass(frozen=True)
class Orders:
    """What a worker is told.

    Attributes:
        state: folder of all runs.
        run: which run.
        partitions: numbers of those it has to replay.
    """

    state: str
    run: str
    partitions: list[int]


Arrival = tuple[Partition, Taken]


class Worker:
    """Replays some partitions of a run.

    Args:
        settings: the settings in force.
        folder: of the run.
        plan: of the run.
        numbers: its partitions.
        tell: told how far it is.
        stop: ends it early, with everything safe.

    Raises:
        CallscopeError: a model cannot be used, or the source is not there.
    """

    def __init__(
        self,
        settings: Settings,
        folder: RunFolder,
        plan: Plan,
        numbers: Sequence[int],
        tell: Callable[[dict[str, Any]], None],
        stop: threading.Event,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._calls = None if plan.calls is None else frozenset(plan.calls)
        self._idle_s = settings.processors.idle_stream_s
        self._tell = tell
        self._stop = stop
        self._source: Source = source_of(plan, settings)
        self._destination = destination_of(plan, settings)
        self._digests = Digests()
        self._joining = Joining()
        self._whose: dict[StreamId, Partition] = {}
        self._consents: list[Consent] = []
        # Which stream has ended is said by `Partition`, whatever else is at work in this process.
        self._pipeline = build_pipeline(settings, clock.wall_ns, self._fresh_consents, idle_stream_s=math.inf)
        self._parts = [
            Partition(part, state, self._idle_s)
            for part in plan.parts
            if part.number in numbers and not (state := folder.state(part)).finished
        ]
        self._samples = 0
        self._records = 0
        self._told_at = self._safe_at = self._began = clock.monotonic()

    def run(self) -> None:
        """Replay to the end, or until it is stopped.

        Raises:
            CallscopeError: the source or the destination failed; what was safe stays so.
        """
        waiting = list(self._parts)
        while waiting and not self._stop.is_set():
            together = waiting if self._plan.speed else waiting[:AT_ONCE]
            waiting = waiting[len(together) :]
            for partition in together:
                self._consents += [c for c in self._source.consents(partition.part) if self._wants(c.call_id)]
            readers = {id(partition): self._read(partition) for partition in together}
            batches = self._paced(readers) if self._plan.speed else self._by_turns(together, readers)
            for batch in batches:
                self._work(batch)
                self._report(together)
                if self._stop.is_set():
                    break
            else:
                for partition in together:
                    self._close(partition)
            self._checkpoint(together)
        self._news()

    def _read(self, partition: Partition) -> Iterator[Arrival]:
        for taken in self._source.records(partition.part, partition.state.next):
            yield partition, taken

    def _by_turns(
        self, together: Sequence[Partition], readers: dict[int, Iterator[Arrival]]
    ) -> Iterator[list[Arrival]]:
        """Some records of each partition, until there are none."""
        active = list(together)
        while active:
            batch: list[Arrival] = []
            for partition in list(active):
                chunk = list(islice(readers[id(partition)], CHUNK))
                if len(chunk) < CHUNK:
                    active.remove(partition)
                batch += chunk
            yield batch

    def _paced(self, readers: dict[int, Iterator[Arrival]]) -> Iterator[list[Arrival]]:
        """Records when they are due."""
        pacing = Pacing(self._plan.speed)
        batch: list[Arrival] = []
        for arrival in heapq.merge(*readers.values(), key=_arrived_ns):
            envelope = arrival[1].envelope
            if envelope is not None and self._wants(arrival[1].call):
                due_s = self._began + pacing.due_s(envelope)
                if due_s > clock.monotonic():
                    yield batch
                    batch = []
                while (left_s := due_s - clock.monotonic()) > 0 and not self._stop.wait(min(left_s, NEWS_S)):
                    self._news()
            batch.append(arrival)
            if len(batch) >= CHUNK or self._stop.is_set():
                yield batch
                batch = []
        yield batch

    def _wants(self, call: str) -> bool:
        return is_wanted(self._plan, self._calls, call)

    def _work(self, batch: Sequence[Arrival]) -> None:
        frames: list[Envelope] = []
        for partition, taken in batch:
            self._records += 1
            envelope = taken.envelope
            if envelope is None:
                partition.skipped(taken.offset, unreadable=self._wants(taken.call))
                continue
            frame = envelope.record
            assert isinstance(frame, AudioFrame)
            if idle := partition.heard(envelope.ledger.arrived_ns):
                frames = self._analyse(frames)
                self._end(idle)
            if not self._wants(frame.stream.call_id):
                partition.skipped(taken.offset)
            elif partition.admit(taken.offset, envelope):
                self._whose[frame.stream] = partition
                frames.append(envelope)
                self._samples += len(frame.pcm)
                if frame.last:  # worked on before anything that may follow under the same name
                    frames = self._analyse(frames)
        self._analyse(frames)

    def _analyse(self, frames: list[Envelope]) -> list[Envelope]:
        """Work on audio; returns what is left of it, nothing."""
        for stream in self._put(self._pipeline(self._joining(frames))):
            if self._whose[stream].has_ended(stream):
                self._done(stream)
        return []

    def _end(self, streams: Sequence[StreamId]) -> None:
        self._put(self._pipeline.end(streams))
        for stream in streams:
            self._done(stream)

    def _done(self, stream: StreamId, *, ended: bool = True) -> None:
        """All results of a stream are out."""
        self._joining.forget(stream)
        self._whose.pop(stream).ended(stream, self._digests.take(stream) or "", ended=ended)

    def _put(self, results: Sequence[Envelope]) -> list[StreamId]:
        """Send results where they go; returns the streams whose end is among them."""
        over = []
        for result in results:
            topic = wire.topic_of(result.record)
            if topic.name not in _RESULT_NAMES:
                continue
            value = wire.encode(result)
            self._destination.put(topic, result.record.stream, result.ledger.arrived_ns, value)
            self._digests.add(topic.name, value)
            if isinstance(result.record, InsightsEnd):
                over.append(result.record.stream)
        return over

    def _close(self, partition: Partition) -> None:
        """The partition has no more: streams that are open still run, as far as their audio says."""
        running = frozenset(partition.open)
        for step in (self._pipeline.detect, self._pipeline.extract, self._pipeline.infer):
            step.drop(running.__contains__)
        for stream in running:
            self._done(stream, ended=False)
        partition.state.finished = True

    def _report(self, together: Sequence[Partition]) -> None:
        now = clock.monotonic()
        if now - self._told_at > NEWS_S:
            self._news()
        if now - self._safe_at > CHECKPOINT_S:
            self._checkpoint(together)

    def _checkpoint(self, together: Sequence[Partition]) -> None:
        """First the results, then how far they reach: what a state says is done is safe."""
        self._destination.settle()
        try:
            for partition in together:
                self._folder.write_state(partition.part.number, partition.checkpoint())
        except OSError as error:
            raise BadReplay(f"{self._folder.path} cannot be written: {error}.") from error
        self._safe_at = clock.monotonic()

    def _news(self) -> None:
        self._told_at = clock.monotonic()
        self._tell({"records": self._records, "seconds": self._samples / RATE_HZ})

    def _fresh_consents(self) -> Sequence[Consent]:
        fresh, self._consents = self._consents, []
        return fresh


def _arrived_ns(arrival: Arrival) -> int:
    envelope = arrival[1].envelope
    return 0 if envelope is None else envelope.ledger.arrived_ns


def main() -> None:
    """Read the orders and carry them out."""
    orders = Orders(**json.loads(sys.stdin.readline()))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifetime.end_with_parent()
    os.nice(NICENESS)

    def tell(news: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(news) + "\n")
        sys.stdout.flush()

    try:
        settings = load(log_level="warning")
        logs.configure_logging(settings.log_level)
        folder = RunFolder(Path(orders.state), orders.run)
        worker = Worker(settings, folder, folder.plan(), orders.partitions, tell, stop)
        lifetime.settle_memory()
        tell({"ready": True})
        worker.run()
    except CallscopeError as error:
        tell({"failed": str(error)})
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)  # nobody listens any more


if __name__ == "__main__":
    main()
