"""What can be asked for, and what it matches."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import SubscribeError
from schemas.v1.events_pb2 import CallEvent
from sinks.messages import TYPES
from sinks.subscription import MAX_NAMED, Subscription, read_subscription
from tests.sinks import records


def read(**request: object) -> Subscription:
    return read_subscription(json.dumps({"type": "subscribe", **request}))


def test_nothing_named_means_everything() -> None:
    asked = read()
    assert asked == read(calls=None, streams=None, kinds=None, lld=None, functionals=None)
    for record in (records.level(0.0), records.features(0.0, 1.0), records.arousal(0.0, 1.0, 0.5)):
        assert asked.wants(records.message(record))


def test_calls_streams_and_kinds() -> None:
    asked = read(calls=["a"], streams=["b/agent"], kinds=["activity", "call"])
    wanted = {
        (call, leg): asked.wants(records.message(records.level(0.0, call=call, leg=leg)))
        for call in "abc"
        for leg in ("agent", "customer")
    }
    assert [key for key, value in wanted.items() if value] == [("a", "agent"), ("a", "customer"), ("b", "agent")]
    assert not asked.wants(records.message(records.arousal(0.0, 1.0, 0.5, call="a")))
    assert asked.wants(records.message(records.call_event(CallEvent.CALL_ENDED, call="b"))), "its call ends"
    assert not asked.wants(records.message(records.call_event(CallEvent.CALL_ENDED, call="c")))


def test_an_empty_list_follows_nothing() -> None:
    assert not read(calls=[]).wants(records.message(records.level(0.0)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{}", "binary"),
        ("{", "Not JSON"),
        ("[" * 100_000, "Not JSON"),
        ("[]", "Not a request"),
        ('{"type": "unsubscribe"}', "Not a request"),
        ('{"type": "subscribe", "call": ["a"]}', "Unknown field 'call'"),
        ('{"type": "subscribe", "kinds": ["level"]}', "Unknown kind 'level'"),
        ('{"type": "subscribe", "calls": "a"}', "'calls' must be a list of strings"),
        ('{"type": "subscribe", "streams": [1]}', "'streams' must be a list of strings"),
        ('{"type": "subscribe", "lld": 1}', "'lld' must be true or false"),
        (json.dumps({"type": "subscribe", "calls": ["a"] * (MAX_NAMED + 1)}), "at most 1000"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(text: str | bytes, says: str) -> None:
    with pytest.raises(SubscribeError, match=says):
        read_subscription(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_value_of_any_field_is_read_or_refused(value: object) -> None:
    for key in ("calls", "streams", "kinds", "lld", "functionals"):
        try:
            asked = read(**{key: value})
        except SubscribeError:
            continue
        assert set(asked.as_json()["kinds"]) <= set(TYPES)
