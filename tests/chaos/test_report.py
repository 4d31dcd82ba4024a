from __future__ import annotations

import json
from dataclasses import replace

from rich.console import Console

from chaos import report
from chaos.faults import FAULTS
from chaos.rounds import Round, Struck
from chaos.verdict import Found, Verdict

GOOD = Verdict((), 0, 0, 0, ())
KILLED = Struck(FAULTS["kill-worker"], 8.0, 0.1, 6.5)
DONE = Round(1, (KILLED,), Found({"line00/agent": "a1"}, {}, {}), GOOD, 1_000, 0, ())


def text(*rounds: Round) -> str:
    console = Console(width=140, record=True)
    console.print(report.table(rounds))
    return console.export_text()


def test_a_fault_has_a_row() -> None:
    shown = text(replace(DONE, number=0, struck=()), DONE)
    assert "undisturbed" in shown
    assert "kill-worker" in shown
    assert "6.5" in shown
    assert "FAILED" not in shown


def test_results_that_come_too_late_or_never_fail_the_round() -> None:
    late, never = replace(KILLED, fresh_s=10.1), replace(KILLED, fresh_s=None)
    for struck, says in ((late, "after 10.1 s"), (never, "never")):
        done = replace(DONE, struck=(struck,))
        assert not done.good
        assert "FAILED" in text(done)
        assert says in report.problems([done])[0]


def test_json_tells_whether_all_is_good() -> None:
    written = json.loads(json.dumps(report.as_json([DONE], seed=1, legs=20, seconds=50.0)))
    assert written["good"]
    assert written["rounds"][0]["faults"][0]["fresh_s"] == 6.5
    lost = replace(DONE, verdict=replace(GOOD, lost=1, because=("line00: not told",)))
    assert not report.as_json([DONE, lost], 1, 20, 50.0)["good"]
