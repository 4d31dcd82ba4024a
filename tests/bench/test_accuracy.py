from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.accuracy import Score, auc, f1, losses, matches, merge, on_grid, pipeline, read_folder, read_spans, spans_of
from callscope.config import Detect as DetectConfig

AMI = Path(__file__).parents[3] / "shared" / "data" / "ami"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.rttm", "SPEAKER a 1 1.0 0.5 <NA> <NA> x <NA> <NA>\nSPEAKER a 1 1.2 0.8 <NA> <NA> y <NA> <NA>\n"),
        ("a.csv", "start,end,label\n1.0,2.0,speech\n2.0,2.5,0\n"),
        ("a.txt", "1.000000\t2.000000\tspeech\n\\\t300.0\t3000.0\n"),
        ("a.lab", "1.0 2.0 voice\n\n"),
    ],
)
def test_reads_labels(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_spans(tmp_path / name) == ((1.0, 2.0),)


def test_the_area_is_how_often_speech_has_the_higher_score() -> None:
    rng = np.random.default_rng(0)
    score, speech = rng.integers(0, 9, 300).astype(np.float64), rng.random(300) < 0.4
    above, below = score[speech][:, None], score[~speech][None, :]
    assert auc(score, speech) == pytest.approx((above > below).mean() + 0.5 * (above == below).mean())
    assert np.isnan(auc(score, np.ones(300, bool)))


def test_f1() -> None:
    assert f1(np.array([True, True, False, False]), np.array([True, False, True, False])) == 0.5


def test_edges_match_one_to_one_and_nearest_first() -> None:
    assert matches([1.0, 1.3, 9.0], [1.25, 1.2, 5.0]) == [(1, 0), (0, 1)]


def test_spans_and_frames() -> None:
    assert spans_of(np.array([True, False, True, True])) == ((0.0, 0.01), (0.02, 0.04))
    assert merge([(1.0, 1.5), (0.0, 0.9), (1.4, 2.0)], 0.2) == ((0.0, 2.0),)
    hops = [(0, 512, 0.1), (512, 512, 0.9), (1_600, 512, 0.4)]
    assert on_grid(hops, 14).tolist() == [0.1] * 3 + [0.9] * 7 + [0.4] * 4


@pytest.mark.skipif(not AMI.exists(), reason="the recordings are not on this machine")
@pytest.mark.parametrize(("lost", "least_auc", "least_f1"), [(0.0, 0.98, 0.86), (0.05, 0.975, 0.82)])
def test_the_pipeline_on_ami(lost: float, least_auc: float, least_f1: float) -> None:
    score, judge = Score(), pipeline(DetectConfig())
    for recording in read_folder(AMI):
        gone = losses(recording, lost)
        score.add(recording, gone, judge(recording.pcm, gone))
    speech = np.concatenate(score.speech)
    assert auc(np.concatenate(score.probability), speech) >= least_auc
    assert f1(np.concatenate(score.spoken), speech) >= least_f1
