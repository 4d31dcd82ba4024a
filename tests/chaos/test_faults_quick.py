"""The quick faults on a machine of their own; `make chaos` strikes all of them (docs/chaos.md)."""

from __future__ import annotations

import pytest

from chaos.faults import FAULTS
from chaos.rounds import Round
from chaos.run import Load, run

pytestmark = pytest.mark.integration

LOAD = Load(legs=4, seconds=28.0, seed=3, first_speed=4.0)
QUICK = ("corrupt", "reordered", "duplicates", "kill-sink", "kill-worker")


async def test_what_is_found_does_not_depend_on_what_happens() -> None:
    """Two rounds of the same calls: an undisturbed one, faster than real time; one with a fault after the other."""
    faults = [FAULTS[name] for name in QUICK]
    plan = [(3.0, fault) for fault in faults]
    said: list[str] = []
    rounds: list[Round] = []
    await run([[], plan], faults, LOAD, 1.0, said.append, rounds.append)
    undisturbed, struck = rounds
    assert undisturbed.records > 1_000
    assert tuple(one.fault.name for one in struck.struck) == QUICK
    assert sum("starting it again" in text for text in said) == 2, "the sink and a worker were killed"
    assert struck.failed == ()
    assert struck.verdict.because == ()
    assert struck.verdict.good
