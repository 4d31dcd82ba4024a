"""Whether results depend on who else is calling: the same calls all at once, then one after the other, alone.

Run `python -m bench.identity [--legs 100] [--seconds 30] [--speed 5]`. It compares digests (callscope/replay/digest.py)
of all that is in the result topics, stream by stream, and exits with 1 if one differs. Nothing is shed or refused: what
is left out under load is announced as such, and would be no part of the comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import closing

from rich.console import Console
from rich.progress import track

from callscope.lifetime import end_with_parent
from chaos.calls import STAGGER_S, Call, Line, lines
from chaos.machine import Machine, running
from chaos.written import Results, Written

RESULTS_WITHIN_S = 300.0
"""After the last sample: a machine with too many legs has fallen behind."""


async def speak(machine: Machine, written: Written, said: Sequence[Line], number: int, speed: float) -> list[Results]:
    """Let each line call, a moment after the one before; returns what is found in each when all have ended."""
    calls = [Call(line, line.call_id(number)) for line in said]
    gateway = machine.addresses.gateway
    await asyncio.gather(*(call.speak(gateway, n * STAGGER_S, speed) for n, call in enumerate(calls)))
    found = await asyncio.to_thread(written.await_calls, [call.call_id for call in calls], RESULTS_WITHIN_S)
    return [found[line.name] for line in said]


async def compare(legs: int, seconds: float, speed: float, notes: Console) -> int:
    """How many streams have other results alone than in company."""
    said = lines(legs // 2, seconds, seed=1)
    async with running(notes.print, own_disks=False, own_clock=False) as machine:
        with closing(Written(machine.settings)) as written:
            notes.print(f"{legs} legs at once, {seconds:.0f} s each, in real time …")
            company = await speak(machine, written, said, 0, 1.0)
            alone = [
                (await speak(machine, written, [line], 1, speed))[0]
                for line in track(said, f"each call alone, at {speed:.0f}x", console=notes)
            ]
    together = {stream: digest for results in company for stream, digest in results.by_stream().items()}
    single = {stream: digest for results in alone for stream, digest in results.by_stream().items()}
    differing = sorted(stream for stream in together | single if together.get(stream) != single.get(stream))
    records = [sum(results.records for results in run) for run in (company, alone)]
    print(f"{len(single)} streams, {records[0]} results in company and {records[1]} alone: {len(differing)} differ")
    for stream in differing:
        print(f"  {stream}: {together.get(stream, 'nothing')} in company, {single.get(stream, 'nothing')} alone")
    return len(differing) + (legs - len(single))


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, default=100, help="at once, an even number")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a call")
    parser.add_argument("--speed", type=float, default=5.0, help="of the calls that are alone")
    arguments = parser.parse_args()
    end_with_parent()
    notes = Console(stderr=True, highlight=False)
    sys.exit(1 if asyncio.run(compare(arguments.legs, arguments.seconds, arguments.speed, notes)) else 0)


if __name__ == "__main__":
    main()
