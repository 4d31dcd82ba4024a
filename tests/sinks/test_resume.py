"""A subscriber that comes back: no final is lost and none comes twice, wherever the seam falls."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.following import KafkaRecord
from sinks.feed import read
from sinks.hub import Hub, Resumption, Subscriber
from sinks.messages import TYPE_OF
from sinks.subscription import Subscription, read_subscription
from tests.sinks import records
from tests.sinks.log import CALLS, PARTITIONS, Log, bring, feed_of, plan

T0 = 1_790_000_000_000_000_000


def finding(number: int) -> records.Record:
    """The n-th: of one call or the other; an interim one, a final one, or an insight, by turns."""
    call = CALLS[number // 3 % 2]
    at = number / 10
    match number % 3:
        case 0:
            return records.level(at, call=call, arrived_ns=T0 + number)
        case 1:
            return records.speech_start(at, call=call, arrived_ns=T0 + number)
        case _:
            return records.arousal(at, 1.0, 0.5, call=call, is_final=True, arrived_ns=T0 + number)


class Client:
    """What a subscriber knows: where it is, and the finals it got."""

    def __init__(self) -> None:
        self.at: dict[str, list[int | None]] = {}
        self.finals: list[str] = []
        self.subscriber: Subscriber | None = None

    def connect(self, hub: Hub) -> None:
        self.subscriber = hub.join(lambda: None)
        subscription = read_subscription(json.dumps({"type": "subscribe", "resume": self.at}))
        hub.subscribe(self.subscriber, subscription, T0, plan(hub, subscription))

    def cut(self, hub: Hub) -> None:
        """What was on its way is lost."""
        if self.subscriber is not None:
            hub.leave(self.subscriber)
            self.subscriber = None

    def take(self) -> bool:
        outgoing = None if self.subscriber is None else self.subscriber.next(T0)
        if outgoing is None:
            return False
        message = json.loads(outgoing.data)
        if message["type"] in ("subscribed", "position"):
            self.at = message["at"]
        elif message["type"] != "dropped":
            partition, offset = message["at"]
            self.at[message["type"]][partition] = offset + 1
            if message["is_final"]:
                self.finals.append(message["id"])
        return True


class Sink:
    """A sink that can be killed and started again: it remembers nothing but what it reads."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.handled = 0
        self.start()

    def start(self) -> None:
        self.hub = Hub(10_000)
        self.log.start(self.hub)
        history = feed_of(self.hub, self.hub.publish, is_live=False)
        history(self.log.records)
        self.handled = len(self.log.records)
        self.feed = feed_of(self.hub, self.hub.publish)
        self.rereading: dict[int, list[KafkaRecord]] = {}

    def go_on(self, count: int) -> None:
        self.feed(self.log.records[self.handled : self.handled + count])
        self.handled = min(len(self.log.records), self.handled + count)

    def reread(self, subscriber: Subscriber, which: int) -> None:
        """One more record for a subscriber that is behind."""
        if not subscriber.behind:
            return
        place = sorted(subscriber.behind)[which % len(subscriber.behind)]
        at = subscriber.behind[place]
        following = [record for record in self.log.of(place) if record.offset >= at]
        if following:
            bring(self.hub, subscriber, following[0])
        else:
            self.hub.brought_up_to(subscriber, place, at)


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 8)),
    st.tuples(st.just("again"), st.integers(1, 40)),
    st.tuples(st.just("read"), st.integers(1, 8)),
    st.tuples(st.just("take"), st.integers(1, 8)),
    st.tuples(st.just("reread"), st.integers(0, 10)),
    st.tuples(st.sampled_from(["cut", "connect", "kill", "tell"]), st.just(0)),
)


@settings(max_examples=400)
@given(st.lists(STEPS, max_size=60))
def test_every_final_comes_once_whatever_happens_in_between(steps: list[tuple[str, int]]) -> None:
    log = Log()
    sink, client = Sink(log), Client()
    written = 0
    client.connect(sink.hub)
    client.take()
    for step, number in steps:
        match step:
            case "write":
                for _ in range(number):
                    log.append(finding(written))
                    written += 1
            case "again":  # a worker reads some audio again, and writes what it found again
                for one in range(max(0, written - number), written):
                    log.append(finding(one))
            case "read":
                sink.go_on(number)
            case "take":
                for _ in range(number):
                    client.take()
            case "reread" if client.subscriber is not None:
                sink.reread(client.subscriber, number)
            case "cut":
                client.cut(sink.hub)
            case "connect" if client.subscriber is None:
                client.connect(sink.hub)
            case "kill":
                client.cut(sink.hub)
                sink.start()
            case "tell":
                sink.hub.tell_positions()
    sink.go_on(len(log.records))
    if client.subscriber is None:
        client.connect(sink.hub)
    assert client.subscriber is not None
    while client.subscriber.behind:
        sink.reread(client.subscriber, 0)
    while client.take():
        pass
    messages = [records.message(finding(number)) for number in range(written)]
    assert sorted(client.finals) == sorted(message.id for message in messages if message.is_final)


def test_what_one_has_beyond_the_sink_does_not_come_again() -> None:
    """It was connected to another sink, which was ahead of this one."""
    log = Log()
    for number in range(24):
        log.append(finding(number))
    sink, client = Sink(log), Client()
    sink.hub = Hub(100)
    log.start(sink.hub)
    feed = feed_of(sink.hub, sink.hub.publish)
    client.at = {type_: [2] * PARTITIONS for type_ in TYPE_OF.values()}
    client.connect(sink.hub)
    feed(log.records)
    while client.take():
        pass
    expected = [read(record) for record in log.records if record.offset >= 2]
    assert client.finals == [message.id for message in expected if message is not None and message.is_final]
    assert client.finals


def answer(hub: Hub, request: dict[str, Any], resumption: Resumption | None) -> dict[str, Any]:
    subscriber = hub.join(lambda: None)
    hub.subscribe(subscriber, read_subscription(json.dumps({"type": "subscribe", **request})), T0, resumption)
    outgoing = subscriber.next(T0)
    assert outgoing is not None
    told: dict[str, Any] = json.loads(outgoing.data)
    return told


def test_only_those_who_may_come_back_are_told_where_they_are() -> None:
    hub = Hub(100)
    Log().start(hub)
    hub.passed(("activity", 1), 41)
    assert "at" not in answer(hub, {}, None)
    told = answer(hub, {"resume": {}}, Resumption({("activity", 1): 7}, frozenset({("insight", 0)})))
    assert told["at"]["activity"] == [0, 7, 0]
    assert told["too_old"] == ["insight/0"]
    hub.tell_positions()
    first, second = sorted(hub.subscribers, key=len)
    assert (len(first), len(second)) == (0, 1)


def test_a_subscription_to_calls_needs_their_partitions_only() -> None:
    hub = Hub(100)
    for partition in range(8):
        for type_ in ("activity", "insight"):
            hub.positions[type_, partition] = 0
    one = Subscription(calls=frozenset({"call-1"}), kinds=frozenset({"activity"}))
    (place,) = hub.places_of(one)
    assert place[0] == "activity"
    assert len(list(hub.places_of(Subscription(streams=frozenset({"call-1/agent"}))))) == 2
    assert len(list(hub.places_of(Subscription()))) == 16
