"""Runs load steps against a running system: a generator process, the cost of every process, the workers' lag."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from callscope import kafka, lifetime
from callscope.bench.costs import Meter
from callscope.bench.generator import Orders
from callscope.bench.seen import Spread, Summary
from callscope.bench.step import GENERATOR, Step
from callscope.config import Settings, cores
from callscope.errors import CallscopeError
from callscope.supervisor import System
from callscope.topics import AUDIO_FRAMES

LAG_EVERY_S: Final = 2.0


def run_step(
    settings: Settings,
    system: System,
    legs: int,
    seconds: float,
    recordings: Sequence[Path],
    subscribers: int,
    groups: Sequence[str],
    progress: Callable[[float], None],
) -> Step:
    """Put a load on a running system and say what it came to.

    Args:
        settings: the system's.
        system: it.
        legs: how many at once.
        seconds: how long.
        recordings: whose voices speak.
        subscribers: how many follow all calls.
        groups: the consumer groups that read `audio.frames`.
        progress: told the seconds that were sent.

    Raises:
        CallscopeError: a recording cannot be used, the system refused a call, or a part of it ended.
    """
    orders = Orders(
        gateway=system.addresses.gateway,
        results=system.addresses.results,
        legs=legs,
        seconds=seconds,
        recordings=[str(path) for path in recordings],
        subscribers=subscribers,
        run=f"bench-{uuid.uuid4().hex[:6]}",
    )
    lag = _Lag(settings.model_copy(update={"kafka": system.addresses.kafka}), groups)
    before = Meter(system.pids())  # memory is compared with before the first leg
    child = lifetime.spawn([sys.executable, "-m", "callscope.bench.generator"], stdout=-1)
    assert child.stdin is not None and child.stdout is not None, "both are pipes"
    try:
        child.stdin.write(json.dumps(dataclasses.asdict(orders)).encode() + b"\n")
        meter: Meter | None = None
        costs: dict[str, Any] = {}
        busy = 0.0
        for line in child.stdout:
            news = json.loads(line)
            if "failed" in news:
                raise CallscopeError(f"The load could not be kept up. {news['failed']}")
            if "all_connected" in news:
                meter = Meter({**system.pids(), GENERATOR: child.pid})
                psutil.cpu_percent()
                lag.start()
            if "all_sent" in news and meter is not None:
                costs = meter.read()
                busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
                grown = before.read()
                costs |= {name: dataclasses.replace(costs[name], grown_mb=grown[name].grown_mb) for name in grown}
                lag.stop()
            if "sent_s" in news:
                progress(news["sent_s"])
                system.check()
            if "seen" in news:
                return Step(
                    legs,
                    seconds,
                    _summary(news["seen"]),
                    costs,
                    lag.most,
                    round(busy, 2),
                    cores(),
                )
        raise CallscopeError(f"The load generator ended by itself (exit code {child.wait()}).")
    finally:
        lag.stop()
        lifetime.stop(child)
        child.stdout.close()


def _summary(told: dict[str, Any]) -> Summary:
    spreads = {name: Spread(**told[name]) for name in ("latency", "onset")}
    of_many = {name: {key: Spread(**of) for key, of in told[name].items()} for name in ("by_type", "stages")}
    return Summary(**{**told, **spreads, **of_many})


class _Lag:
    """Looks, now and then, how many records of `audio.frames` the workers have not committed."""

    def __init__(self, settings: Settings, groups: Sequence[str]) -> None:
        self.most = 0
        self._admin = AdminClient(kafka.client_options(settings))
        self._groups = groups
        self._partitions = [TopicPartition(AUDIO_FRAMES.name, number) for number in range(settings.topics.partitions)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bench-lag", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(LAG_EVERY_S):
            try:
                self.most = max(self.most, self._look())
            except KafkaException:  # a look that was not answered; the next one is
                continue

    def _look(self) -> int:
        ends = self._admin.list_offsets({partition: OffsetSpec.latest() for partition in self._partitions})
        end = sum(future.result().offset for future in ends.values())
        committed = 0
        for group in self._groups:
            asked = [ConsumerGroupTopicPartitions(group, self._partitions)]
            answer = self._admin.list_consumer_group_offsets(asked)[group].result()
            committed += sum(max(0, partition.offset) for partition in answer.topic_partitions)
        return int(end - committed)
