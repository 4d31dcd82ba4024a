from __future__ import annotations

import numpy as np
import pytest

from callscope.evaluation.judgement import Judgement
from callscope.evaluation.spans import Span, spoken_in
from callscope.evaluation.vad import binned_area, exact_area, measures, tally


def judged(spans: tuple[Span, ...], seconds: float = 10.0, told_s: tuple[float, ...] = ()) -> Judgement:
    frames = round(seconds * 100)
    spoken = spoken_in(spans, frames)
    return Judgement(np.where(spoken, 0.9, 0.1), spoken, spans, told_s)


def test_frames_and_edges_by_hand() -> None:
    """Labelled 1 to 3 and 5 to 7 s; found 1.1 to 3.2 s, and 9 to 9.5 s where nobody speaks."""
    scores = measures([tally(((1.0, 3.0), (5.0, 7.0)), judged(((1.1, 3.2), (9.0, 9.5)), told_s=(1.3, 9.2)))])
    assert scores["recall"] == pytest.approx(1.9 / 4)
    assert scores["precision"] == pytest.approx(1.9 / 2.6)
    assert scores["miss_rate"] == pytest.approx(2.1 / 4)
    assert scores["false_alarm_rate"] == pytest.approx(0.7 / 6)
    assert scores["f1"] == scores["f1_at_threshold"] == pytest.approx(2 * 1.9 / (2 * 1.9 + 0.7 + 2.1))
    assert scores["edges_found"] == 0.5
    assert scores["onset_median_ms"] == pytest.approx(100)
    assert scores["offset_median_ms"] == pytest.approx(200)
    assert scores["told_median_ms"] == pytest.approx(300)


def test_short_labelled_silences_are_no_edges_and_neither_are_a_recordings_ends() -> None:
    counted = tally(((0.0, 2.0), (2.1, 4.0), (8.0, 10.0)), judged(((0.0, 4.0), (8.0, 10.0))))
    assert (counted.edges, counted.offset_s.tolist(), counted.onset_s.tolist()) == (2, [0.0], [0.0])


def test_what_was_lost_is_not_counted() -> None:
    said = judged(((0.0, 5.0),))
    heard = spoken_in(((0.0, 2.0),), 1_000)
    counted = tally(((0.0, 10.0),), Judgement(said.probability, said.spoken, said.spans, heard=heard))
    assert (counted.right, counted.missed, len(counted.speech)) == (200, 0, 200)


def test_the_quick_area_is_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    tallies = []
    for _ in range(5):
        speech = rng.random(3_000) < 0.5
        probability = np.clip(rng.normal(0.4 + 0.2 * speech, 0.2), 0, 1)
        tallies.append(tally((), Judgement(probability, speech, ())))
        object.__setattr__(tallies[-1], "speech", speech)
    area = binned_area(tallies)
    for chosen in (tallies, tallies[:2], [tallies[3], tallies[3], tallies[1]]):
        assert area(chosen) == pytest.approx(exact_area(chosen), abs=2e-4)
