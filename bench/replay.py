"""How fast calls are replayed: `callscope replay` on a broker of its own, with one worker and with more.

Run `make bench-replay`, or `python -m bench.replay [--calls 32] [--seconds 60] [--workers 1,2]`. Calls of two legs,
each speaking 45 to 50 % of the time (`callscope.bench.conversation`, of the shipped call), lie on the topic in records
of 20 ms, beside one another as if they had run at once, in the partitions that their ids hash to. Each run replays
all of them at full speed with the default analyses into topics of its own. The digests must be the same. CPU is that
of the workers, start and all, without the broker's.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import soundfile
from rich.console import Console
from rich.table import Table

from callscope.bench.conversation import converse, utterances
from callscope.broker import EmbeddedBroker
from callscope.config import Settings, cores, load
from callscope.evaluation.recordings import framed
from callscope.kafka import ensure_topics, producer
from callscope.replay.plan import Plan, RunFolder
from callscope.replay.run import carry_out, draw_up
from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, partition_of
from processors import wire
from processors.records import FRAME_SAMPLES, RATE_HZ, AudioFrame, Envelope, Ledger

LEGS = ("customer", "agent")
BEGAN_NS = 1_790_000_000_000_000_000


def publish(settings: Settings, calls: int, seconds: float) -> None:
    """Put the calls on the topic."""
    with as_file(files("callscope.demo") / "call.ogg") as path:
        pcm, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == RATE_HZ
    spoken = [utterances(leg, rate_hz) for leg in pcm.T]
    frames: list[AudioFrame] = []
    for number in range(calls):
        call = converse(spoken, rate_hz, seconds, number)
        for leg, audio in zip(LEGS, call.pcm.T, strict=True):
            frames += framed(StreamId(f"call-{number}", leg), audio[: len(audio) // FRAME_SAMPLES * FRAME_SAMPLES])
    frames.sort(key=lambda frame: frame.start)
    client = producer(settings)
    for number, frame in enumerate(frames):
        arrived_ns = BEGAN_NS + (frame.start + len(frame.pcm)) * 1_000_000_000 // RATE_HZ
        client.produce(
            AUDIO_FRAMES.name,
            key=str(frame.stream),
            value=wire.encode(Envelope(frame, Ledger(arrived_ns))),
            partition=partition_of(frame.stream.call_id, settings.topics.partitions),
        )
        if number % 10_000 == 0:
            client.flush(60)
    assert client.flush(60) == 0


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed of `callscope replay`.")
    parser.add_argument("--calls", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", default=",".join(str(n) for n in sorted({1, cores()})), help="1,2,...")
    parser.add_argument("--partitions", type=int, default=8)
    options = parser.parse_args()
    table = Table(title=f"{options.calls} calls of two legs, {options.seconds:.0f} s each")
    for column in ("workers", "leg-seconds", "seconds", "leg-seconds/s", "CPU ms/leg-second", "digest"):
        table.add_column(column, justify="right")
    broker = EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True)
    broker.start()
    try:
        settings = load(kafka=broker.bootstrap, topics={"partitions": options.partitions})
        ensure_topics(settings)
        publish(settings, options.calls, options.seconds)
        with tempfile.TemporaryDirectory() as state:
            for workers in options.workers.split(","):
                folder = RunFolder(Path(state), f"bench-{workers}")
                draw_up(settings, Plan(run=folder.run, source="kafka", to="topics"), folder)
                before_s = _children_s()
                outcome = carry_out(settings, folder, int(workers))
                done, cpu_ms = outcome.progress, (_children_s() - before_s) * 1_000
                table.add_row(
                    workers,
                    f"{done.seconds:.0f}",
                    f"{done.for_s:.1f}",
                    f"{done.rate:.0f}",
                    f"{cpu_ms / done.seconds:.1f}",
                    outcome.digest[:12],
                )
    finally:
        broker.stop()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
