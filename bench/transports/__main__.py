"""Transports side by side: `make bench-transports`, or `python -m bench.transports [contender ...] [--rates ...]`.

Two stages forward 640-byte records, keyed by stream (100 streams, 8 partitions), from topic to topic to topic. A
process of its own sends them at an even pace and another reads what comes out, as soon as it comes; neither's CPU is
counted. Latency is from the handing over to the sender's producer until the record is in the reader's hands: three
hops. CPU is that of the stages' processes, and of the broker, while the load is on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from bench.transports import report
from bench.transports.contenders import CONTENDERS, Unavailable
from bench.transports.measure import Failed, Figures, measure
from bench.transports.spec import FETCHING
from callscope.broker import EmbeddedBroker
from callscope.config import load


def main() -> None:
    """Measure and print."""
    names = [contender.name for contender in CONTENDERS]
    parser = argparse.ArgumentParser(
        description="Two forwarding stages over Kafka, built in several ways, side by side."
    )
    parser.add_argument("contenders", nargs="*", choices=[[], *names], help="all of them, if none is named")
    parser.add_argument("--rates", type=int, nargs="+", default=[5_000, 20_000], help="records a second")
    parser.add_argument("--fetching", nargs="+", choices=list(FETCHING), default=list(FETCHING))
    parser.add_argument("--seconds", type=int, default=6, help="of steady load that are counted")
    parser.add_argument("--warm-up", type=int, default=3, help="seconds of load before")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    chosen = [contender for contender in CONTENDERS if contender.name in (options.contenders or names)]
    runs = [
        (contender, rate, fetching)
        for contender in chosen
        for fetching in contender.fetching
        if fetching in options.fetching
        for rate in options.rates
    ]
    figures: list[Figures] = []
    absent: dict[str, str] = {}
    console = Console(stderr=True)
    with EmbeddedBroker(load().broker, ephemeral=True) as broker, console.status("") as status:
        for number, (contender, rate, fetching) in enumerate(runs, 1):
            if contender.name in absent:
                continue
            status.update(f"{number} of {len(runs)}: {contender.title}, {rate:,} records/s, {fetching}")
            if options.json:  # what there is, should a later run end badly
                options.json.write_text(report.as_json(figures, absent) + "\n")
            try:
                run = measure(contender, broker, rate, fetching, options.warm_up, options.seconds)
            except (Unavailable, Failed) as error:
                absent[contender.name] = str(error)
                console.print(f"{contender.title} is left out: {error}")
                continue
            figures.append(run)
            console.print(
                f"{contender.name} {rate} {fetching}: {report.milliseconds(run.p50_ms)}/"
                f"{report.milliseconds(run.p99_ms)} ms, CPU {run.worker_cpu_s:.1f} "
                f"+ {run.broker_cpu_s:.1f} s, {run.received:.1%} came out, sent {run.sent_late_s:.2f} s late"
            )
    if options.json:
        options.json.write_text(report.as_json(figures, absent) + "\n")
    if options.markdown:
        print(f"{report.machine()}; {options.seconds} s\n\n{report.markdown(figures, absent)}")
    else:
        Console(width=130).print(report.table(figures), report.machine(), highlight=False)


if __name__ == "__main__":
    main()
