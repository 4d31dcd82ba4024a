"""A run's report: a table to read, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from chaos.rounds import Round, Struck

COLUMNS: Final = ("round", "fault", "at s", "lasts s", "fresh after s", "digest", "lost", "twice", "results", "")


def table(rounds: Sequence[Round]) -> Table:
    """A row a fault; the first round is undisturbed, and what the others are compared with."""
    shown = Table(*COLUMNS, box=SIMPLE_HEAD, pad_edge=False)
    for column in shown.columns:
        column.no_wrap = True
    for done in rounds:
        for n, struck in enumerate(done.struck or (None,)):
            shown.add_row(*_row(done, struck, first=n == 0))
    return shown


def _row(done: Round, struck: Struck | None, *, first: bool) -> tuple[str, ...]:
    if struck is None:
        fault = ("undisturbed", "", "", "")
    else:
        fresh = "never" if struck.fresh_s is None else f"{struck.fresh_s:.1f}"
        fault = (struck.fault.name, f"{struck.at_s:.1f}", f"{struck.lasted_s:.1f}", fresh)
    if not first:
        return ("", *fault, "", "", "", "", "" if struck is None or struck.in_time else "late")
    verdict = done.verdict
    digest = f"{len(verdict.different)} streams differ" if verdict.different else f"= {done.found.digest[:12]}"
    word = "" if done.good else "FAILED"
    return (str(done.number), *fault, digest, str(verdict.lost), str(verdict.twice), str(done.records), word)


def problems(rounds: Sequence[Round]) -> list[str]:
    """What was wrong, in words."""
    told = []
    for done in rounds:
        told += [f"round {done.number}: {text}" for text in (*done.failed, *done.verdict.because)]
        for struck in done.struck:
            if not struck.in_time:
                fresh = "never" if struck.fresh_s is None else f"after {struck.fresh_s:.1f} s"
                told.append(f"round {done.number}: after {struck.fault.name}, fresh results of every stream: {fresh}")
    return told


def as_json(rounds: Sequence[Round], seed: int, legs: int, seconds: float) -> dict[str, Any]:
    """The report as `--json` writes it."""
    return {
        "seed": seed,
        "legs": legs,
        "seconds": seconds,
        "good": all(done.good for done in rounds),
        "rounds": [
            {
                "number": done.number,
                "good": done.good,
                "digest": done.found.digest,
                "different": list(done.verdict.different),
                "lost": done.verdict.lost,
                "twice": done.verdict.twice,
                "strange": done.verdict.strange,
                "because": list(done.verdict.because),
                "failed": list(done.failed),
                "records": done.records,
                "reconnects": done.reconnects,
                "faults": [
                    {
                        "name": struck.fault.name,
                        "at_s": round(struck.at_s, 2),
                        "lasted_s": round(struck.lasted_s, 2),
                        "fresh_s": None if struck.fresh_s is None else round(struck.fresh_s, 2),
                        "in_time": struck.in_time,
                    }
                    for struck in done.struck
                ],
            }
            for done in rounds
        ],
    }
