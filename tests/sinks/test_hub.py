"""Who gets which message, in which order, how often."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sinks.hub import Hub, Subscriber
from sinks.memory import Memory
from sinks.subscription import Subscription
from tests.sinks import records

T0 = 1_790_000_000_000_000_000


def follow(hub: Hub, subscription: Subscription | None = None) -> Subscriber:
    subscriber = hub.join(lambda: None)
    hub.subscribe(subscriber, subscription or Subscription(), T0)
    return subscriber


def drain(subscriber: Subscriber) -> list[dict[str, Any]]:
    messages = []
    while (outgoing := subscriber.next(T0)) is not None:
        messages.append(json.loads(outgoing.data))
    return messages


def publish(hub: Hub, *found: records.Record) -> None:
    for record in found:
        hub.publish(records.message(record))


def test_everything_goes_to_whoever_wants_it_numbered_from_one() -> None:
    hub = Hub(100)
    everything = follow(hub)
    levels = follow(hub, Subscription(kinds=frozenset({"activity"})))
    publish(hub, *records.call_started(time_ns=T0), records.level(0.0), records.arousal(0.0, 1.0, 0.5))
    messages = drain(everything)
    assert [message["type"] for message in messages] == ["subscribed", "call", "call", "call", "activity", "insight"]
    assert [message["seq"] for message in messages] == [1, 2, 3, 4, 5, 6]
    assert [message["type"] for message in drain(levels)] == ["subscribed", "activity"]


def test_the_answer_lists_what_runs_and_stands_between_the_old_and_the_new_subscription() -> None:
    hub = Hub(100)
    publish(hub, *records.call_started(time_ns=T0))
    subscriber = follow(hub, Subscription(kinds=frozenset({"activity"})))
    publish(hub, records.level(0.0), records.features(0.0, 1.0, lld=[0.5] * 25))
    hub.subscribe(subscriber, Subscription(kinds=frozenset({"features"}), lld=True), T0)
    publish(hub, records.level(0.1), records.features(0.0, 1.1, lld=[0.5] * 25))
    first, level, second, features = drain(subscriber)
    assert [call["call_id"] for call in first["running"]] == ["c1"]
    assert first["kinds"] == ["activity"]
    assert level["type"] == "activity"
    assert second["kinds"] == ["features"]
    assert second["lld_columns"]["eGeMAPSv02"][0] == "Loudness_sma3"
    assert features["lld"] == [[0.5] * 25]


def test_nobody_gets_anything_before_asking_or_after_leaving() -> None:
    hub = Hub(100)
    silent = hub.join(lambda: None)
    gone = follow(hub)
    drain(gone)
    hub.leave(gone)
    publish(hub, records.level(0.0))
    assert drain(silent) == drain(gone) == []


def test_a_finding_computed_again_is_no_news() -> None:
    hub = Hub(100)
    subscriber = follow(hub)
    for record in (records.level, records.speech_start):
        publish(hub, *(record(number / 10, arrived_ns=T0 + number) for number in range(5)))
        for number in range(5):
            assert hub.publish(records.message(record(number / 10, arrived_ns=T0 + number))).duplicate
        assert not hub.publish(records.message(record(0.5, arrived_ns=T0 + 5))).duplicate
    assert len(drain(subscriber)) == 1 + 2 * 6


def test_finals_are_known_within_the_window_only() -> None:
    hub = Hub(100, remembered=3)
    publish(hub, *(records.speech_start(number / 10, arrived_ns=T0) for number in range(4)))
    assert hub.publish(records.message(records.speech_start(0.3, arrived_ns=T0))).duplicate
    assert not hub.publish(records.message(records.speech_start(0.0, arrived_ns=T0))).duplicate


def test_what_is_forgotten_is_told() -> None:
    memory = Memory(2)
    for offset in range(4):
        assert memory.is_news(records.message(records.speech_start(float(offset), arrived_ns=T0)), 1, 10 + offset)
    assert memory.known_from(("activity", 1)) == 12
    assert memory.known_from(("activity", 0)) == 0


def test_a_stream_id_used_again_starts_afresh() -> None:
    """Whatever its events say, and in whichever order they come: what it found rests on other audio."""
    hub = Hub(100)
    for record in (records.level, records.speech_start):
        publish(hub, record(0.0, arrived_ns=T0), record(0.1, arrived_ns=T0 + 1))
        assert not hub.publish(records.message(record(0.0, arrived_ns=T0 + 2))).duplicate
        assert hub.publish(records.message(record(0.0, arrived_ns=T0 + 2))).duplicate


def test_a_call_event_delivered_again_is_a_duplicate_also_after_a_restart_of_the_stream() -> None:
    hub = Hub(100)
    for record in records.call_started(time_ns=T0) * 2:
        hub.publish(records.message(record))
    assert hub.publish(records.message(records.call_started(time_ns=T0)[0])).duplicate


def test_a_slow_subscriber_is_told_how_many_it_missed() -> None:
    hub = Hub(10)
    slow = follow(hub)
    drain(slow)
    publish(hub, records.speech_start(0.0), *(records.level(number / 10) for number in range(15)))
    first, *rest = drain(slow)
    assert (first["type"], first["count"], first["seq"]) == ("dropped", 6, 2)
    assert rest[0]["kind"] == "speech_start"
    assert [round(message["start"], 1) for message in rest[1:]] == [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4]
    assert not slow.too_slow


def test_a_subscriber_that_would_lose_finals_is_too_slow() -> None:
    woken = []
    hub = Hub(10)
    slow = hub.join(lambda: woken.append(slow.too_slow))
    hub.subscribe(slow, Subscription(), T0)
    publish(hub, *(records.speech_start(float(number)) for number in range(10)))
    assert slow.too_slow
    assert woken == [False] * 10 + [True]


@given(
    st.lists(
        st.sampled_from(["level", "final", "take", "subscribe"]),
        max_size=150,
    )
)
def test_numbers_never_jump_and_every_message_sent_or_counted(steps: list[str]) -> None:
    hub = Hub(10)
    subscriber = follow(hub)
    sent: list[dict[str, Any]] = []
    published = 0
    for number, step in enumerate(steps):
        if subscriber.too_slow:
            return
        if step == "take":
            outgoing = subscriber.next(T0)
            if outgoing is not None:
                sent.append(json.loads(outgoing.data))
        elif step == "subscribe":
            hub.subscribe(subscriber, Subscription(), T0)
        else:
            publish(hub, records.level(number) if step == "level" else records.speech_start(number))
            published += 1
    if subscriber.too_slow:
        return
    sent += drain(subscriber)
    assert [message["seq"] for message in sent] == list(range(1, len(sent) + 1))
    dropped = sum(message["count"] for message in sent if message["type"] == "dropped")
    assert dropped + sum(message["type"] == "activity" for message in sent) == published


def test_the_error_that_ends_a_connection_is_numbered_too() -> None:
    subscriber = follow(Hub(10))
    drain(subscriber)
    assert json.loads(subscriber.error("bad_request", "no")) == {
        "type": "error",
        "code": "bad_request",
        "message": "no",
        "seq": 2,
    }
