from __future__ import annotations

import numpy as np
import pytest

from callscope.config import load
from callscope.evaluation.comparison import changed, differences, flips, shifts
from callscope.evaluation.judgement import Judgement, Said
from callscope.evaluation.labels import Labels, Utterance
from callscope.evaluation.scoring import Scoring, all_scores, conditions_of, facets_of
from callscope.evaluation.spans import Span, spoken_in
from callscope.streams import StreamId


def judged(spans: tuple[Span, ...], said: tuple[Said, ...] = ()) -> Judgement:
    spoken = spoken_in(spans, 1_000)
    return Judgement(spoken.astype(np.float64), spoken, spans, segments=spans, said=said)


def labelled(*spans: Span, condition: str = "") -> Labels:
    return Labels(tuple(Utterance(span, "", "1") for span in spans), condition=condition)


STREAMS = [StreamId(f"call-{n}", "customer") for n in range(6)]
LABELS = {
    stream.call_id: labelled((1.0, 4.0), (6.0, 8.0), condition="office" if n % 2 else "car")
    for n, stream in enumerate(STREAMS)
}
GOOD = {stream: judged(((1.0, 4.0), (6.0, 8.0))) for stream in STREAMS}
POOR = {stream: judged(((1.0 + n / 10, 4.0),)) for n, stream in enumerate(STREAMS)}
HOW = Scoring(resamples=200)


def test_every_resample_has_the_same_calls_on_both_sides() -> None:
    """B finds everything, A at most three of five seconds: so in every resample, by between 2 and 2.5 s."""
    found = differences(facets_of(POOR, LABELS, HOW), facets_of(GOOD, LABELS, HOW), HOW)["vad.recall"]
    assert found.value == pytest.approx((2 + 0.25) / 5)
    assert 2 / 5 <= found.interval.low < found.value < found.interval.high <= 2.5 / 5
    assert found.is_clear and found.interval.above == 1.0


def test_a_run_against_itself_differs_in_nothing() -> None:
    facets = facets_of(POOR, LABELS, HOW)
    for difference in differences(facets, facets, HOW).values():
        assert difference.value == 0 or np.isnan(difference.value)
        assert not difference.is_clear
    assert flips(POOR, POOR, LABELS) == []


def test_conditions_are_scored_apart() -> None:
    run = {stream: (GOOD if n % 2 else POOR)[stream] for n, stream in enumerate(STREAMS)}
    scores = all_scores(facets_of(run, LABELS, HOW), LABELS, HOW)
    assert scores["vad.recall@office"].value == 1.0 > scores["vad.recall"].value > scores["vad.recall@car"].value
    assert conditions_of({"a": Labels()}) == {}


def test_the_stretches_on_which_two_disagree() -> None:
    stream = StreamId("c", "customer")
    a, b = {stream: judged(((1.0, 4.0),))}, {stream: judged(((1.0, 3.0), (6.0, 7.0), (9.0, 9.03)))}
    found = flips(a, b, {"c": labelled((0.0, 3.5), (6.0, 7.0))})
    assert [(flip.span, flip.b_speaks, flip.speech, flip.right) for flip in found] == [
        ((3.0, 4.0), False, 0.5, ""), ((6.0, 7.0), True, 1.0, "B")
    ]  # fmt: skip
    assert flips(a, b, {})[1].speech is None


def test_outputs_that_differ() -> None:
    stream = StreamId("c", "customer")

    def run(*values: float | None) -> dict[StreamId, Judgement]:
        said = tuple(Said("m", "1", (2.0 * n, 2.0 * n + 1.5), {"arousal": v}) for n, v in enumerate(values))
        return {stream: judged((), said)}

    found = shifts(run(0.1, 0.5, None, None), run(0.2, 0.5, 0.4, None))
    assert [(shift.span, shift.a, shift.b) for shift in found] == [((4.0, 5.5), None, 0.4), ((0.0, 1.5), 0.1, 0.2)]


def test_settings_that_differ() -> None:
    a, b = (load(processors={"detect": {"detector": name}}).model_dump(mode="json") for name in ("webrtc", "silero"))
    assert changed(a, b) == [("processors.detect.detector", "webrtc", "silero")]
