"""Which calls count as running."""

from schemas.v1.events_pb2 import CallEvent
from sinks.calls import MAX_CALLS, SILENT_NS, Calls
from sinks.messages import Message
from sinks.subscription import Subscription
from tests.sinks import records

ALL = Subscription()
T0 = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


def hear(calls: Calls, *found: records.Record) -> Calls:
    for record in found:
        calls.heard(records.message(record))
    return calls


def level(call: str, leg: str) -> Message:
    return records.message(records.level(0.0, call=call, leg=leg))


def test_a_call_runs_from_its_start_to_its_end() -> None:
    calls = hear(Calls(), *records.call_started(time_ns=T0, metadata={"queue": "billing"}))
    (call,) = calls.running(T0 + SECOND, ALL)
    assert call["call_id"] == "c1"
    assert call["started_ns"] == T0
    assert call["metadata"] == {"queue": "billing"}
    assert [leg["stream"] for leg in call["legs"]] == ["c1/customer", "c1/agent"]
    assert call["legs"][0] == {
        "leg": "customer",
        "stream": "c1/customer",
        "started_ns": T0,
        "encoding": "mulaw",
        "rate_hz": 8_000,
        "ended": False,
    }
    hear(calls, records.call_event(CallEvent.STREAM_ENDED, leg="agent", time_ns=T0 + SECOND))
    assert [leg["ended"] for leg in calls.running(T0 + SECOND, ALL)[0]["legs"]] == [False, True]
    hear(calls, records.call_event(CallEvent.CALL_ENDED, time_ns=T0 + SECOND))
    assert calls.running(T0 + SECOND, ALL) == []
    assert calls.count(T0 + SECOND) == 0


def test_late_results_do_not_bring_an_ended_call_back() -> None:
    calls = hear(Calls(), *records.call_started(time_ns=T0), records.call_event(CallEvent.CALL_ENDED, time_ns=T0 + 1))
    hear(calls, records.level(1.0, arrived_ns=T0 + 2))
    assert calls.running(T0 + 3, ALL) == []


def test_a_call_known_from_its_results_only_runs_too() -> None:
    calls = hear(Calls(), records.level(1.0, arrived_ns=T0), records.level(1.0, leg="agent", arrived_ns=T0))
    (call,) = calls.running(T0, ALL)
    assert call["started_ns"] is None
    assert [leg["leg"] for leg in call["legs"]] == ["customer", "agent"]


def test_a_call_whose_end_was_never_told_stops_running_when_silent() -> None:
    calls = hear(Calls(), *records.call_started(time_ns=T0), records.level(0.0, arrived_ns=T0 + SECOND))
    assert calls.count(T0 + SILENT_NS) == 1
    assert calls.count(T0 + SECOND + SILENT_NS) == 0


def test_after_the_history_silent_calls_get_the_benefit_of_the_doubt() -> None:
    calls = hear(Calls(), *records.call_started(time_ns=T0))
    now = T0 + 10 * SILENT_NS
    calls.caught_up(now)
    assert calls.running(now, ALL)[0]["heard_ns"] is None
    hear(calls, records.level(600.0, arrived_ns=now))
    assert calls.running(now, ALL)[0]["heard_ns"] == now
    hear(calls, *records.call_started("lost", time_ns=T0))
    assert [call["call_id"] for call in calls.running(now + SILENT_NS - 1, ALL)] == ["c1", "lost"]
    assert calls.running(now + SILENT_NS, ALL) == []


def test_an_id_used_again_is_another_call() -> None:
    calls = hear(
        Calls(),
        *records.call_started(time_ns=T0, metadata={"a": "1"}),
        records.call_event(CallEvent.CALL_ENDED, time_ns=T0 + SECOND),
        *records.call_started(legs=["agent"], time_ns=T0 + 2 * SECOND),
    )
    (call,) = calls.running(T0 + 2 * SECOND, ALL)
    assert call["metadata"] == {}
    assert [leg["leg"] for leg in call["legs"]] == ["agent"]


def test_only_what_is_subscribed_is_listed() -> None:
    calls = hear(Calls(), *records.call_started("a", time_ns=T0), *records.call_started("b", time_ns=T0))
    asked = Subscription(streams=frozenset({"b/agent"}))
    (call,) = calls.running(T0, asked)
    assert [leg["stream"] for leg in call["legs"]] == ["b/agent"]


def test_memory_is_bounded() -> None:
    calls = Calls()
    for number in range(MAX_CALLS + 10):
        hear(calls, records.level(0.0, call=f"c{number}", arrived_ns=T0))
    assert calls.count(T0) == MAX_CALLS
