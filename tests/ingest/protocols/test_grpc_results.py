"""What goes back on a call: its own results, each once, in their order, as much of them as was asked for."""

from __future__ import annotations

from typing import Any

from callscope.streams import StreamId
from callscope.topics import CALL_EVENTS, VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS
from ingest.protocols.grpc_results import GrpcResults
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.analysis_pb2 import AnalysisResult, Published, StreamStart
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.features_pb2 import FeatureWindow
from schemas.v1.insight_pb2 import Insight

WHO: dict[str, Any] = {"call_id": "acme~c", "leg": "customer"}


def results(limit: int = 100, **wanted: object) -> GrpcResults:
    start = StreamStart(**wanted)  # type: ignore[arg-type]  # fields by name
    return GrpcResults([StreamId("acme~c", "customer")], "c", start, limit, lambda: None)


def level(at: int) -> bytes:
    return VoiceActivity(**WHO, kind=VoiceActivity.LEVEL, start=at, duration=1_600).SerializeToString()


def edge(at: int) -> bytes:
    return VoiceActivity(**WHO, kind=VoiceActivity.SPEECH_START, start=at).SerializeToString()


def sent(queue: GrpcResults) -> list[AnalysisResult]:
    out = []
    while message := queue.next(5):
        out.append(message)
    return out


def test_the_tenant_does_not_show() -> None:
    queue = results()
    queue.record(VOICE_ACTIVITY.name, level(0))
    (message,) = sent(queue)
    assert (message.seq, message.pushed_ns, message.is_final) == (1, 5, False)
    assert (message.activity.call_id, message.activity.leg) == ("c", "customer")


def test_another_leg_of_the_call_is_not_ours_but_the_calls_events_are() -> None:
    queue = results()
    other = VoiceActivity(call_id="acme~c", leg="agent", kind=VoiceActivity.SPEECH_START)
    queue.record(VOICE_ACTIVITY.name, other.SerializeToString())
    queue.record(CALL_EVENTS.name, CallEvent(call_id="acme~c", kind=CallEvent.CALL_ENDED).SerializeToString())
    assert [message.call.kind for message in sent(queue)] == [CallEvent.CALL_ENDED]


def test_a_repeated_result_is_sent_once() -> None:
    queue = results()
    for at in (0, 1_600, 0, 1_600, 3_200):
        queue.record(VOICE_ACTIVITY.name, level(at))
    queue.record(VOICE_ACTIVITY.name, edge(0))
    assert [message.activity.start for message in sent(queue)] == [0, 1_600, 3_200, 0]
    assert queue.duplicates == 2


def test_what_was_not_asked_for_is_left_out() -> None:
    window = FeatureWindow(**WHO, kind=FeatureWindow.WINDOW, lld=[1.0], functionals=[2.0]).SerializeToString()
    for lld, functionals in ((False, False), (True, False), (False, True)):
        queue = results(lld=lld, functionals=functionals)
        queue.record(VOICE_FEATURES.name, window)
        (message,) = sent(queue)
        assert (len(message.features.lld), len(message.features.functionals)) == (lld, functionals)
    queue = results(results=[StreamStart.INSIGHT])
    queue.record(VOICE_FEATURES.name, window)
    assert sent(queue) == []


def test_it_is_complete_when_every_topic_that_can_has_said_so() -> None:
    queue = results(results=[StreamStart.ACTIVITY])
    ends = (
        (VOICE_FEATURES.name, FeatureWindow(**WHO, kind=FeatureWindow.STREAM_END)),
        (CALL_EVENTS.name, CallEvent(**WHO, kind=CallEvent.STREAM_ENDED)),
        (VOICE_INSIGHTS.name, Insight(**WHO, stream_ended=True)),
    )
    for topic, end in ends:
        assert not queue.complete
        queue.record(topic, end.SerializeToString())
    assert queue.complete
    assert sent(queue) == []


def test_interim_results_give_way_to_final_ones_and_it_is_told() -> None:
    queue = results(limit=3)
    for at in range(4):
        queue.record(VOICE_ACTIVITY.name, level(at))
    queue.record(VOICE_ACTIVITY.name, edge(9))
    told, *rest = sent(queue)
    assert told.dropped.count == 2 and told.seq == 1
    assert [message.activity.start for message in rest] == [2, 3, 9]


def test_a_lost_final_result_stops_it() -> None:
    queue = results(limit=2)
    for at in range(3):
        queue.record(VOICE_ACTIVITY.name, edge(at))
    assert queue.too_slow
    assert queue.next(5) is None


def test_answers_take_their_place_among_the_results() -> None:
    queue = results()
    queue.record(VOICE_ACTIVITY.name, edge(0))
    queue.answer(AnalysisResult(is_final=True, published=Published()))
    assert [message.WhichOneof("result") for message in sent(queue)] == ["activity", "published"]
