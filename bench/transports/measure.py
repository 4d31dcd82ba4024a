"""One measurement: one contender at one rate, from fresh topics to figures."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Protocol

import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from bench.transports.contenders import Contender
from bench.transports.load import PROBE, record
from bench.transports.spec import PARTITIONS, Load, Stages
from callscope import clock, kafka, lifetime
from callscope.broker import EmbeddedBroker
from callscope.config import Settings, child_environment, load
from callscope.topics import HOUR_MS, Topic

READY_TIMEOUT_S = 60.0
CATCH_UP_S = 1.0
"""What is not out so long after the last record was sent, the contender has not kept up with."""


class HasPid(Protocol):
    """A process that runs."""

    @property
    def pid(self) -> int:
        """Its process id."""


class Failed(Exception):
    """A run came to nothing; the message says how."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run gave.

    Attributes:
        contender: its name.
        processes: in which its two stages ran.
        rate: records a second that were sent.
        fetching: "unpaced" or "paced".
        seconds: for how long.
        received: share of the records that were out 1 s after the last was sent, 0 to 1.
        duplicates: records that came out twice.
        p50_ms: median latency of those that came out; None where none did, as for the next two.
        p99_ms: 99th percentile.
        max_ms: the longest.
        worker_cpu_s: CPU time of the stages' processes while the load was on.
        broker_cpu_s: the same of the broker, which also serves the sender and the reader.
        sent_late_s: how much longer than `seconds` sending took; the sender's fault where it is not near 0.
    """

    contender: str
    processes: int
    rate: int
    fetching: str
    seconds: int
    received: float
    duplicates: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    worker_cpu_s: float
    broker_cpu_s: float
    sent_late_s: float

    @property
    def kept_up(self) -> bool:
        """Whether everything came out in time."""
        return self.received == 1.0


def measure(
    contender: Contender, broker: EmbeddedBroker, rate: int, fetching: str, warm_up_s: int, seconds: int
) -> Figures:
    """Run the stages of a contender under load.

    Raises:
        Unavailable: it cannot take part on this machine.
        Failed: a process of the run ended early, or the stages did not begin to forward.
    """
    settings = load(kafka=broker.bootstrap, topics={"partitions": PARTITIONS})
    with _topics(settings) as topics, ExitStack() as stack:
        workers = _start(contender, broker.bootstrap, topics, fetching, stack)
        _await_forwarding(settings, topics, workers)
        spec = json.dumps(asdict(Load(broker.bootstrap, topics[0], topics[2], rate, warm_up_s, seconds)))
        reader, sender = (_spawn_end(name, spec, stack) for name in ("receive", "send"))
        _await_word(sender, "steady")
        began, worker_cpu, broker_cpu = clock.monotonic(), _cpu_s(workers), _cpu_s([broker])
        _await_word(sender, "done")
        took, worker_cpu, broker_cpu = (
            clock.monotonic() - began,
            _cpu_s(workers) - worker_cpu,
            _cpu_s([broker]) - broker_cpu,
        )
        with suppress(subprocess.TimeoutExpired):
            reader.wait(CATCH_UP_S)
        for name, process in [(contender.name, worker) for worker in workers] + [("reader", reader)]:
            if process.poll() not in (None, 0):
                raise Failed(f"a process of {name} ended with code {process.returncode}; its message is above")
        assert reader.stdin
        assert reader.stdout
        reader.stdin.close()  # the time is up
        came = json.loads(reader.stdout.read())
    return Figures(
        contender=contender.name,
        processes=contender.processes,
        rate=rate,
        fetching=fetching,
        seconds=seconds,
        received=came.pop("received") / (rate * seconds),
        worker_cpu_s=round(worker_cpu, 2),
        broker_cpu_s=round(broker_cpu, 2),
        sent_late_s=round(took - seconds, 2),
        **came,
    )


@contextmanager
def _topics(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Three fresh topics, deleted afterwards: a run is some hundred MB."""
    run = uuid.uuid4().hex[:8]
    first, middle, last = names = (f"bench-{run}-in", f"bench-{run}-mid", f"bench-{run}-out")
    kafka.ensure_topics(settings, tuple(Topic(name, "stream", "none", "bench", HOUR_MS) for name in names))
    try:
        yield first, middle, last
    finally:
        admin = AdminClient(kafka.client_options(settings))
        for deleted in admin.delete_topics(list(names)).values():
            deleted.result(30)


def _start(
    contender: Contender, servers: str, topics: Sequence[str], fetching: str, stack: ExitStack
) -> list[subprocess.Popen[bytes]]:
    """The processes of the two stages."""
    hops = [[topics[0], topics[1]], [topics[1], topics[2]]]
    shares = [hops] if contender.processes == 1 else [[hop] for hop in hops]
    workers = []
    for share in shares:
        stages = Stages(servers, f"{share[0][0]}-{contender.name}", share, fetching)
        environment = {**child_environment(), **contender.environment}
        workers.append(lifetime.spawn(contender.command(stages), env=environment))
        stack.callback(lifetime.stop, workers[-1])
    return workers


def _spawn_end(name: str, spec: str, stack: ExitStack) -> subprocess.Popen[bytes]:
    end = lifetime.spawn([sys.executable, "-m", "bench.transports.load", name, spec], stdout=subprocess.PIPE)
    stack.callback(lifetime.stop, end)
    return end


def _await_word(process: subprocess.Popen[bytes], word: str) -> None:
    assert process.stdout
    if process.stdout.readline().decode().strip() != word:
        raise Failed(f"the sender ended before it was {word}; its message is above")


def _await_forwarding(settings: Settings, topics: Sequence[str], workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Send one record into each partition and wait until as many come out."""
    producer = kafka.producer(settings)
    for number in range(PARTITIONS):
        producer.produce(topics[0], record(PROBE), f"call-{number}/agent", number)
    producer.flush(10)
    consumer = kafka.consumer(settings)
    consumer.assign([TopicPartition(topics[2], number, 0) for number in range(PARTITIONS)])
    out, deadline = 0, clock.monotonic() + READY_TIMEOUT_S
    while out < PARTITIONS:
        for worker in workers:
            if worker.poll() is not None:
                raise Failed(f"a worker ended with code {worker.returncode} before it forwarded; its message is above")
        if clock.monotonic() > deadline:
            raise Failed(f"only {out} of {PARTITIONS} records were forwarded in {READY_TIMEOUT_S:.0f} s")
        message = consumer.poll(0.1)
        out += message is not None and not message.error()
    consumer.close()


def _cpu_s(processes: Sequence[HasPid]) -> float:
    """CPU time that processes and their threads have used so far."""
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return sum(time.user + time.system for time in times)
