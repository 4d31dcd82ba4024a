"""An export is scored as it is, and its audio run again."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from callscope.cli import main
from callscope.config import Settings, load
from callscope.evaluation.exported import read_calls, read_run
from callscope.evaluation.in_process import Analysis
from callscope.exchange.exporting import Choice, export
from tests.callscope.exchange.calls import LEGS, LOST, publish

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def exported(kafka: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    call_id = f"call-{uuid.uuid4().hex[:8]}"
    publish(kafka, call_id)
    folder = tmp_path_factory.mktemp("export") / "calls"
    export(kafka, Choice((call_id,), audio="none"), folder, lambda done, total: None)
    return folder


def test_what_was_recorded_is_what_comes_out_again(exported: Path) -> None:
    """All but the probabilities: an export has their means over 100 ms. A refusal holds the second time too."""
    recorded = read_run(exported)
    (call,) = read_calls(exported)
    assert [consent.purposes for consent in call.consents] == [("health",)]
    again = Analysis(load(), models=True).run(call)
    assert {stream.leg for stream in again} == set(LEGS)
    for stream, judged in again.items():
        assert recorded[stream].spans == judged.spans
        assert recorded[stream].segments == judged.segments
        assert recorded[stream].detector == judged.detector == "silero"
        heard = judged.heard
        assert np.abs(recorded[stream].probability[heard] - judged.probability[heard]).mean() < 0.15
        assert heard.all() == (stream.leg == "agent")
    customer = next(judged for stream, judged in again.items() if stream.leg == "customer")
    assert not customer.heard[LOST.start * 2 : LOST.stop * 2].any()


def test_an_export_on_the_command_line(exported: Path, tmp_path: Path) -> None:
    (name,) = json.loads((exported / "export.json").read_text())["calls"]
    labels = tmp_path / "labels.csv"
    labels.write_text(f"call,leg,start,end\n{name},agent,0.6,3.0\n{name},customer,5.9,6.0\n")
    common = [str(exported), str(labels), "--resamples", "100", "--out", str(tmp_path / "out")]
    for more in ([], ["--ab", str(exported), "processors.detect.detector=webrtc"]):
        told = CliRunner().invoke(main, ["eval", *common, *more])
        assert told.exit_code == 0, told.output
        said = json.loads((tmp_path / "out" / "eval.json").read_text())
        assert len(said["sides"]) == (2 if more else 1) and said["calls"] == [name]
    assert list((tmp_path / "out" / "eval-examples").iterdir())
