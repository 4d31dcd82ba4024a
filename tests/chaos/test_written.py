from __future__ import annotations

from callscope.topics import VOICE_ACTIVITY, VOICE_INSIGHTS
from chaos.written import Results
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.insight_pb2 import Insight
from schemas.v1.ledger_pb2 import Ledger


def level(call_id: str, level_dbfs: float = -30.0, arrived_ns: int = 5) -> bytes:
    return VoiceActivity(
        call_id=call_id,
        leg="agent",
        kind=VoiceActivity.LEVEL,
        start=1_600,
        duration=1_600,
        level_dbfs=level_dbfs,
        ledger=Ledger(arrived_ns=arrived_ns),
    ).SerializeToString()


def found(*values: bytes) -> Results:
    results = Results()
    for value in values:
        results.add(VOICE_ACTIVITY.name, value)
    return results


def test_calls_of_a_line_that_say_the_same_are_the_same() -> None:
    """In other rounds, at other times, and computed once more."""
    one, other = found(level("line00-001")), found(level("line00-002", arrived_ns=9), level("line00-002"))
    assert one.places == other.places
    assert one.by_stream() == other.by_stream() != {}


def test_one_bit_makes_another_result() -> None:
    one, other = found(level("line00-001")), found(level("line00-001", -30.000002))
    assert one.by_stream() != other.by_stream()
    both = found(level("line00-001"), level("line00-001", -30.000002))
    ((_, places),) = both.places.items()
    ((_, hashes),) = places.items()
    assert len(hashes) == 2, "workers that disagree are seen"


def test_a_leg_has_ended_when_its_last_insight_says_so() -> None:
    results = found(level("line00-001"))
    assert results.ended == set()
    end = Insight(call_id="line00-001", leg="agent", start=3_200, stream_ended=True)
    results.add(VOICE_INSIGHTS.name, end.SerializeToString())
    assert results.ended == {"agent"}
