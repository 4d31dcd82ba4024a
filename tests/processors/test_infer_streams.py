from __future__ import annotations

import dataclasses

import numpy as np
from prometheus_client import REGISTRY

from processors.infer_streams import InferStreams
from processors.records import Consent, Envelope, Insight, InsightsEnd, Ledger, SpeechFrame, WindowKind
from processors.stages.infer import Infer, Policy
from processors.stages.model import load_models
from tests.processors.stages.test_infer import AGENT, CUSTOMER, SECOND, utterance, window

ARRIVED = Ledger(arrived_ns=1, published_ns=2, detected_ns=3, extracted_ns=4)


def streams(*consents: list[Consent]) -> InferStreams:
    """Consents become known with the first batch, the second, ..."""
    coming = iter([*consents, *[[]] * 100])
    return InferStreams(Infer(load_models(["arousal"]), Policy()), lambda: 5, lambda: next(coming))


def counted(because: str) -> float:
    labels = {"model": "arousal", "because": because}
    return REGISTRY.get_sample_value("callscope_infer_withheld_total", labels) or 0.0


def insights(results: list[Envelope]) -> list[Insight]:
    return [result.record for result in results if isinstance(result.record, Insight)]


def test_insights_carry_the_ledger_of_their_window() -> None:
    (result,) = streams()([Envelope(utterance(0), ARRIVED)])
    assert result.ledger == dataclasses.replace(ARRIVED, inferred_ns=5)


def test_a_consent_holds_from_the_next_window_on() -> None:
    infer = streams([], [Consent("call", "customer", 5 * SECOND, allowed=False)])
    assert len(insights(infer([Envelope(window(segment=2))]))) == 1
    assert insights(infer([Envelope(window(segment=3)), Envelope(window(segment=1))])) != []
    assert insights(infer([Envelope(window(segment=3))])) == []


def test_what_was_withheld_is_counted() -> None:
    infer = streams([Consent("call", "customer", 0, allowed=False)])
    policy, consent = counted("policy"), counted("consent")
    infer([Envelope(window(AGENT)), Envelope(window()), Envelope(window(segment=1))])
    infer([Envelope(window(AGENT))])
    assert (counted("policy") - policy, counted("consent") - consent) == (2, 2)


def test_a_streams_end_makes_it_forgotten() -> None:
    infer = streams()
    familiar = [Envelope(utterance(segment, 24.0 + segment)) for segment in range(3)]
    end = Envelope(dataclasses.replace(window(), kind=WindowKind.STREAM_END, duration=0))
    results = infer([*familiar, Envelope(window(segment=9)), end, Envelope(window(segment=9))])
    assert results[-1].record == InsightsEnd(CUSTOMER, window().start)
    known = insights(results)
    assert known[-2].outputs[0].value is not None
    assert "0.0 of 5.0" in known[-1].outputs[0].unknown_because
    assert len(infer) == 1
    infer.drop(lambda stream: stream == CUSTOMER)
    assert len(infer) == 0


def test_speech_is_passed_over_where_no_model_listens() -> None:
    infer = streams()
    assert not infer.listens
    assert infer([Envelope(SpeechFrame(CUSTOMER, 0, 0, np.zeros(320, np.int16)))]) == []
    assert len(infer) == 0
