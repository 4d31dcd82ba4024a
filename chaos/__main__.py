"""`python -m chaos`: what `make chaos` runs."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from callscope.errors import CallscopeError
from chaos import report
from chaos.faults import FAULTS
from chaos.rounds import Round
from chaos.run import Load, at_random, one_by_one, run


def _listed(context: click.Context, parameter: click.Parameter, text: str | None) -> list[str]:
    names = list(FAULTS) if text is None else text.split(",") if text else []
    if unknown := [name for name in names if name not in FAULTS]:
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    return names


@click.command()
@click.option("--faults", callback=_listed, help='Their names, with commas between them; "" for none. Default: all.')
@click.option("--minutes", type=float, help="Strike at random for so long; else each fault once.")
@click.option("--legs", default=20, show_default=True, help="Legs at once, two a call.")
@click.option("--seconds", default=50.0, show_default=True, help="Length of a call.")
@click.option("--stop", "stop_s", default=20.0, show_default=True, help="How long a process is stopped, seconds.")
@click.option("--seed", default=1, show_default=True, help="Decides what is said and what is left to chance.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the report to this file too.")
def main(
    faults: list[str],
    minutes: float | None,
    legs: int,
    seconds: float,
    stop_s: float,
    seed: int,
    json_path: Path | None,
) -> None:
    """Strike faults while calls run; exit with 1 if what was found is not what is found without them."""
    log, log_path = tempfile.mkstemp(prefix="callscope-chaos-", suffix=".log")
    os.dup2(log, 2)  # the processes under test have much to say
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, 120)
    console.print(f"What the processes say goes to {log_path}.")
    chosen = []
    for fault in (FAULTS[name] for name in faults):
        if reason := fault.why_not():
            console.print(f"{fault.name} is left out: {reason}.")
        else:
            chosen.append(fault)
    rng = random.Random(seed)  # noqa: S311  # repeatable, and no secret
    plan = at_random(chosen, seconds, minutes, rng) if minutes and chosen else one_by_one(chosen, seconds, rng)
    rounds: list[Round] = []

    def ended(done: Round) -> None:
        rounds.append(done)
        names = ", ".join(struck.fault.name for struck in done.struck) or "undisturbed"
        console.print(f"round {done.number}, {names}: {'good' if done.good else 'FAILED'}")
        for text in report.problems([done]):
            console.print(f"  {text}")

    try:
        load = Load(legs, seconds, seed)
        asyncio.run(run(plan, chosen, load, stop_s, console.print, ended))
    except* CallscopeError as errors:
        console.print(f"The run broke off: {errors.exceptions[0]}")
        sys.exit(2)
    finally:
        console.print(report.table(rounds))
        if json_path is not None:
            json_path.write_text(json.dumps(report.as_json(rounds, seed, legs, seconds), indent=2) + "\n")
    sys.exit(0 if all(done.good for done in rounds) else 1)


if __name__ == "__main__":
    main()
