"""`callscope eval` from the command line to the report, on the shipped synthetic call."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from callscope.cli import main
from callscope.evaluation.spans import GRID, merge, spans_of
from tests.signals import demo_leg

SECONDS = 12
AGENT, CUSTOMER = 1, 0


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def speech(leg: int) -> list[tuple[float, float]]:
    """Where a leg speaks: line noise and the other side's echo stay below that level."""
    level = np.abs(demo_leg(leg)[: SECONDS * 16_000].astype(float)).reshape(-1, GRID).max(axis=1)
    return [span for span in merge(spans_of(level > 300), 0.2) if span[1] - span[0] > 0.1]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stereo call labelled by channel, and its agent's leg alone, labelled beside it."""
    folder = tmp_path_factory.mktemp("calls")
    legs = [demo_leg(leg)[: SECONDS * 16_000] for leg in (CUSTOMER, AGENT)]
    soundfile.write(folder / "both.wav", np.stack(legs, axis=1), 16_000)
    soundfile.write(folder / "alone.flac", legs[1], 16_000)
    rttm = [
        f"SPEAKER both {channel} {a:.3f} {b - a:.3f} <NA> <NA> s{channel} <NA> <NA>"
        for channel, leg in ((1, CUSTOMER), (2, AGENT))
        for a, b in speech(leg)
    ]
    (folder / "both.rttm").write_text("\n".join(rttm))
    (folder / "alone.csv").write_text("start,end\n" + "".join(f"{a},{b}\n" for a, b in speech(AGENT)))
    (folder / "conditions.csv").write_text("file,condition\nboth,two legs\nalone,one leg\n")
    return folder


def scores(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "eval.json").read_text())["sides"][0]["scores"]
    return {name: score["value"] for name, score in found.items()}


def test_a_folder_of_calls(calls: Path, tmp_path: Path) -> None:
    told = run(calls, calls, "--conditions", calls / "conditions.csv", "--resamples", 100, "--out", tmp_path,
               "--fail-under", "vad.auc=0.9", "--fail-over", "turns.turns_error=1")  # fmt: skip
    assert told.exit_code == 0, told.output
    found = scores(tmp_path)
    assert found["vad.auc"] > 0.95 and found["vad.f1"] > 0.9 and found["segments.f1"] > 0.7
    assert found["turns.talk_share_error"] < 0.1
    assert found["vad.auc@two legs"] != found["vad.auc@one leg"]
    page = (tmp_path / "eval.html").read_text()
    assert "By condition" in page and "<svg" in page and "Of 100 seconds" in page
    addresses = set(re.findall(r'(?:src|href)="([^"#]*)"', page))
    assert addresses == {f"eval-examples/{path.name}" for path in (tmp_path / "eval-examples").iterdir()}
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)


def test_a_gate_that_does_not_hold_ends_with_1_and_says_which(calls: Path, tmp_path: Path) -> None:
    told = run(calls / "alone.flac", calls / "alone.csv", "--resamples", 100, "--out", tmp_path,
               "--fail-under", "vad.f1=0.5", "--fail-under", "vad.f1=0.999")  # fmt: skip
    assert told.exit_code == 1
    assert re.fullmatch(r"callscope eval: vad\.f1 is 0\.\d+, under 0\.999\n", told.stderr)


def test_two_detectors(calls: Path, tmp_path: Path) -> None:
    arguments = (calls, calls, "--ab", "processors.detect.detector=energy", "processors.detect.detector=silero",
                 "--resamples", 100, "--examples", 4)  # fmt: skip
    told = run(*arguments, "--out", tmp_path / "a", "--fail-under", "difference.vad.f1=-1")
    assert told.exit_code == 0, told.output
    said = json.loads((tmp_path / "a" / "eval.json").read_text())
    assert said["settings"] == [{"name": "processors.detect.detector", "a": "energy", "b": "silero"}]
    assert [side["name"] for side in said["sides"]] == ["energy", "silero"]
    f1_a, f1_b = (side["scores"]["vad.f1"]["value"] for side in said["sides"])
    assert said["differences"]["vad.f1"]["value"] == pytest.approx(f1_b - f1_a)
    assert len(said["flips"]) > 4 == len(list((tmp_path / "a" / "eval-examples").iterdir()))
    longest = said["flips"][0]
    first = next((tmp_path / "a" / "eval-examples").glob("01-*.wav"))
    assert soundfile.info(first).duration >= min(8.0, longest["span"][1] - longest["span"][0])

    assert run(*arguments, "--out", tmp_path / "b").exit_code == 0
    for name in ("eval.json", "eval.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), "the same every time"


def test_models_on_utterances(tmp_path: Path) -> None:
    """One speaker's calm utterances are the baseline; a raised pitch and level is heard as arousal."""
    from tests.signals import hush, join, voice

    rows = ["file,speaker,mood"]
    for n in range(4):
        for mood, f0_hz, peak, effort in (("calm", 110.0, 4_000.0, 1.0), ("loud", 170.0, 20_000.0, 1.6)):
            audio = join(hush(0.2), voice(2.0, f0_hz=f0_hz + n, peak=peak, effort=effort, seed=n), hush(0.2))
            soundfile.write(tmp_path / f"{mood}{n}.wav", audio, 16_000)
            rows.append(f"{mood}{n}.wav,s1,{mood}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    told = run(tmp_path, tmp_path / "labels.csv", "--utterances", "--baseline", "mood=calm", "--score",
               "arousal=mood:loud/calm", "--resamples", 100, "--out", tmp_path / "out")  # fmt: skip
    assert told.exit_code == 0, told.output
    found = scores(tmp_path / "out")
    assert found["output.arousal~mood.auc"] == 1.0 and found["output.arousal~mood.labels"] == 8


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("{calls}", "{calls}/nowhere"), "no labels at"),
        (("{calls}/alone.flac", "name:(?P<x>nothing)"), "None of the 1 calls in"),
        (("{calls}/alone.csv", "{calls}"), "cannot be read as audio"),
        (("{calls}", "{calls}", "--ab", "webrtc", "configured"), "is neither a TOML file nor an export here"),
        (("{calls}", "{calls}", "--set", "processors.detect.detektor=webrtc"), "processors.detect.detektor"),
        (("{calls}", "name:(?P<mood>.)", "--utterances", "--baseline", "mood=x"), "none of the files has that label"),
        (("{calls}", "{calls}", "--legs", "customer"), "has 2 channels, --legs names 1"),
        (("{calls}/alone.flac", "{calls}", "--score", "arousal=mood:loud"), "the labels have no 'mood'"),
        (("{calls}/alone.flac", "{calls}", "--fail-under", "vad.f3=1"), "There is no score 'vad.f3'"),
    ],
)
def test_what_cannot_be_done_is_said(calls: Path, tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    told = run(*(text.replace("{calls}", str(calls)) for text in arguments), "--resamples", 100, "--out", tmp_path)
    assert told.exit_code == 1, told.output
    assert complaint in told.stderr


def test_the_template_is_shipped() -> None:
    assert files("callscope.evaluation").joinpath("report.html.jinja").is_file()
