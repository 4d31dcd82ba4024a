from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.transports import report
from bench.transports.contenders import CONTENDERS, Contender
from bench.transports.load import PROBE, RECORD_BYTES, record
from bench.transports.measure import Figures
from bench.transports.spec import Stages

RUN = Figures("confluent", 2, 5_000, "paced", 6, 1.0, 0, 11.2, 20.4, 31.0, 1.25, 3.5, 0.0)


def test_a_record_is_as_long_as_20_ms_of_audio() -> None:
    assert len(record(PROBE)) == len(record(1 << 40)) == RECORD_BYTES == 640


def test_markdown_has_a_row_a_contender_and_a_column_a_rate() -> None:
    lines = report.markdown([RUN, replace(RUN, rate=20_000, received=0.25)], {}).splitlines()
    assert lines[0] == "| | processes | fetching | 5,000 records/s | 20,000 records/s |"
    assert lines[2].endswith("| 2 | paced | 11/20 (1.2 + 3.5) | 11/20 (1.2 + 3.5); 25% came out |")
    assert len(lines) == 3


def test_what_is_left_out_is_named_with_its_reason() -> None:
    assert "Left out: quixstreams, since it is away." in report.markdown([RUN], {"quixstreams": "it is away"})
    assert json.loads(report.as_json([], {"quixstreams": "it is away"}))["left_out"] == {"quixstreams": "it is away"}


def test_json_says_whether_a_run_kept_up() -> None:
    runs = json.loads(report.as_json([RUN, replace(RUN, received=0.999)], {}))["runs"]
    assert [run["kept_up"] for run in runs] == [True, False]


@pytest.mark.parametrize("contender", [c for c in CONTENDERS if "callscope" in c.name], ids=lambda c: c.name)
def test_a_worker_is_told_its_stages(contender: Contender) -> None:
    stages = Stages("127.0.0.1:9092", "group", [["in", "out"]], "paced")
    assert Stages(**json.loads(contender.command(stages)[-1])) == stages
