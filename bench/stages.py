"""What each stage costs: CPU milliseconds per second of audio and stream.

Run `make bench-stages`, or `python -m bench.stages [--streams 30] [--seconds 20] [section ...]`. A section is a module
`bench/stages_<name>.py`, named in SECTIONS, with `measure(streams, seconds)`: it returns pairs of what was measured and
its cost. Process time is counted, so other work on the machine disturbs the figures less than it would a clock, but it
does. Kafka and Protobuf are not in it.
"""

from __future__ import annotations

import argparse
import importlib

from rich.console import Console
from rich.table import Table

SECTIONS = ("detect", "extract", "infer", "marks")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU of each stage, per second of audio and stream.")
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], help="all of them, if none is named")
    parser.add_argument("--streams", type=int, default=30)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    table = Table(title=f"{options.streams} streams, {options.seconds} s of audio each")
    table.add_column("stage")
    table.add_column("what")
    table.add_column("ms per second", justify="right")
    console = Console()
    with console.status("Measuring") as status:
        for name in options.sections or SECTIONS:
            status.update(f"Measuring {name}")
            for what, cost_ms in importlib.import_module(f"bench.stages_{name}").measure(
                options.streams, options.seconds
            ):
                table.add_row(name, what, f"{cost_ms:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
