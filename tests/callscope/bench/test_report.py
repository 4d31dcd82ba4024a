"""What a load test tells: table, Markdown, verdict, plot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from callscope.bench import report
from callscope.bench.step import Step
from tests.callscope.bench.steps import NOTHING, step

STEPS = [step(10), step(20, 80.0), step(40, 180.0), step(30, 90.0, lost=1)]


def test_a_row_has_every_column() -> None:
    cells = dict(zip(report.COLUMNS, report.row(step(20, 80.4)), strict=True))
    assert cells == {
        "legs": "20",
        "p50 ms": "30",
        "p95 ms": "75",
        "p99 ms": "80",
        "max ms": "110",
        "lost": "0",
        "twice": "0",
        "shed": "0",
        "CPU/leg ms/s": "30.0",
        "gateway": "4.0",
        "broker": "5.0",
        "workers": "19.0",
        "sink": "2.0",
        "(generator)": "25.0",
        "MB/leg": "2.0",
        "busy cores": "1.1 of 2",
        "lag": "12",
    }


def test_markdown_is_a_table_with_the_ledger_and_the_verdict() -> None:
    lines = report.markdown(STEPS).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(STEPS)
    assert {line.count("|") for line in table} == {len(report.COLUMNS) + 1}
    assert [line.split("|")[1].strip() for line in table[2:]] == ["10", "20", "40", "30"]
    assert lines[-1] == report.verdict(STEPS)
    ledger = "20 legs, from station to station, p50/p99 ms: published 8/20, detected 9/21"
    assert f"{ledger}; start of speech known 300/500 ms after the onset." in lines


def test_stations_and_onsets_that_were_not_seen_are_not_told() -> None:
    of_levels = dataclasses.replace(step(10).seen, onset=NOTHING)
    assert report.stage_line(dataclasses.replace(step(10), seen=of_levels)).endswith("published 8/20, detected 9/21")


@pytest.mark.parametrize(
    ("steps", "most", "said"),
    [
        (STEPS, 20, "20 legs at once are the most that stayed within the limit: 99 % of results under 100 ms."),
        ([step(10, 120.0)], 0, "No step stayed within the limit: 99 % of results under 100 ms, none lost, none twice."),
        ([], 0, "No step stayed within the limit: 99 % of results under 100 ms, none lost, none twice."),
    ],
)
def test_the_verdict(steps: list[Step], most: int, said: str) -> None:
    assert report.most_legs(steps) == most
    assert report.verdict(steps) == said


def test_as_json_names_the_machine_and_the_limit() -> None:
    told = json.loads(json.dumps(report.as_json(STEPS), allow_nan=False))
    assert (told["limit_ms"], told["most_legs"], len(told["steps"])) == (100, 20, 4)
    assert told["machine"]["cores"] >= 1 and told["machine"]["architecture"]


@pytest.mark.parametrize(("name", "begins"), [("climb.png", b"\x89PNG"), ("climb.svg", b"<?xml")])
def test_the_plot_is_a_picture(tmp_path: Path, name: str, begins: bytes) -> None:
    report.plot(STEPS, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
