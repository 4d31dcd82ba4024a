"""What a leg writes into Kafka: bytes and records of every topic, by second and hour; the ground of docs/operations.md.

Run `python -m bench.topic_bytes [--legs 20] [--seconds 60]`. The load is that of `callscope bench`; what the embedded
broker has on its disk afterwards is counted, so keys, headers and Kafka's own framing are in it.
"""

from __future__ import annotations

import argparse
from importlib.resources import as_file, files

from confluent_kafka import Consumer, TopicPartition
from rich.console import Console
from rich.table import Table

from callscope import kafka, supervisor
from callscope.bench.run import run_step
from callscope.config import load
from callscope.lifetime import end_with_parent
from callscope.topics import ALL_TOPICS


def main() -> None:
    """Put the load on and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    end_with_parent()
    notes = Console(stderr=True, highlight=False)
    settings = load()
    with (
        as_file(files("callscope.demo") / "call.ogg") as shipped,
        supervisor.running(settings, chained=False, ephemeral=True, free_ports=True, say=notes.print) as system,
    ):
        group = f"{settings.processors.group}-fused"
        step = run_step(settings, system, arguments.legs, arguments.seconds, [shipped], 1, [group], lambda _: None)
        leg_seconds = arguments.legs * arguments.seconds
        assert system.broker is not None, "its disk is counted, so it is the embedded one"
        folder = system.broker.log_path.parents[1] / "data"
        reader = Consumer(
            {**kafka.client_options(settings.model_copy(update={"kafka": system.addresses.kafka})), "group.id": "none"}
        )
        table = Table("topic", "records/s and leg", "bytes a record", "kB/s and leg", "MB/h and leg")
        for topic in ALL_TOPICS:
            on_disk = sum(path.stat().st_size for path in folder.rglob(f"{topic.name}-*/*.log"))
            partitions = reader.list_topics(topic.name).topics[topic.name].partitions
            ends = [
                reader.get_watermark_offsets(TopicPartition(topic.name, number), timeout=10) for number in partitions
            ]
            records = sum(high - low for low, high in ends)
            a_second = on_disk / leg_seconds
            table.add_row(
                topic.name,
                f"{records / leg_seconds:.2f}",
                f"{on_disk / records:.0f}" if records else "",
                f"{a_second / 1_000:.2f}",
                f"{a_second * 3_600 / 1e6:.1f}",
            )
        reader.close()
    Console().print(table)
    Console().print(f"shed: {step.seen.shed} windows")


if __name__ == "__main__":
    main()
