"""Whether results depend on who else is calling: the same calls all at once, then one after the other, alone.

Run `python -m bench.identity [--legs 100] [--seconds 30] [--alone 50] [--speed 10]`. It compares digests
(callscope/replay/digest.py) of all that is in the result topics, stream by stream, and exits with 1 if one differs.
Nothing is shed or refused: what is left out under load is announced as such, and would be no part of the comparison.
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
from chaos.rounds import found_in
from chaos.verdict import judge
from chaos.written import Results, Written

RESULTS_WITHIN_S = 300.0
"""After the last sample: a machine with too many legs has fallen behind."""


async def speak(
    machine: Machine, written: Written, said: Sequence[Line], number: int, speed: float
) -> dict[str, Results]:
    """Let each line call, a moment after the one before; returns what is found of each when all have ended."""
    calls = [Call(line, line.call_id(number)) for line in said]
    gateway = machine.addresses.gateway
    await asyncio.gather(*(call.speak(gateway, n * STAGGER_S, speed) for n, call in enumerate(calls)))
    return await asyncio.to_thread(written.await_calls, [call.call_id for call in calls], RESULTS_WITHIN_S)


async def compare(legs: int, seconds: float, alone: int, speed: float, notes: Console) -> bool:
    """Whether the first `alone` calls have the same results alone as in company."""
    said = lines(legs // 2, seconds, seed=1)
    async with running(notes.print, own_disks=False, own_clock=False) as machine:
        with closing(Written(machine.settings)) as written:
            notes.print(f"{legs} legs at once, {seconds:.0f} s each, in real time …")
            company = await speak(machine, written, said, 0, 1.0)
            single: dict[str, Results] = {}
            for line in track(said[:alone], f"each call alone, at {speed:.0f}x", console=notes):
                single |= await speak(machine, written, [line], 1, speed)
    found = found_in(single, {})
    verdict = judge(found, found_in({name: company[name] for name in single}, {}))
    results = sum(of.records for of in single.values())
    print(f"{len(found.digests)} streams, {results} results: {len(verdict.different)} streams differ")
    for text in verdict.because:
        print(f"  {text}")
    return verdict.good and len(found.digests) == 2 * len(single)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, default=100, help="at once, an even number")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a call")
    parser.add_argument("--alone", type=int, default=50, help="how many of the calls to make again")
    parser.add_argument("--speed", type=float, default=10.0, help="of the calls that are alone")
    arguments = parser.parse_args()
    end_with_parent()
    notes = Console(stderr=True, highlight=False)
    same = asyncio.run(compare(arguments.legs, arguments.seconds, arguments.alone, arguments.speed, notes))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
