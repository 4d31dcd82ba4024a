"""What subscribers are told of workers that leave work out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.v1.status_pb2 import WorkerStatus
from sinks.hub import Hub, Subscriber
from sinks.messages import Undecodable
from sinks.subscription import Subscription
from sinks.workers import Workers

T0 = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000


def status(*shed: str, worker: str = "w", since_s: int = 0, at_s: int = 0, stopped: bool = False) -> bytes:
    return WorkerStatus(
        worker=worker, shed=shed, since_ns=T0 + since_s * SECOND_NS, time_ns=T0 + at_s * SECOND_NS, stopped=stopped
    ).SerializeToString()


def drain(subscriber: Subscriber) -> list[dict[str, Any]]:
    messages = []
    while (outgoing := subscriber.next(T0)) is not None:
        messages.append(json.loads(outgoing.data))
    return messages


def test_only_changes_are_told() -> None:
    workers = Workers()
    told = [
        (message.kind, message.fields["shed"])
        for value in (
            status(),
            status("infer", since_s=1, at_s=1),
            status("infer", since_s=1, at_s=2),
            status("infer", "extract", since_s=3, at_s=3),
            status(since_s=4, at_s=4),
            status(since_s=4, at_s=5),
        )
        for message in workers.heard(value)
    ]
    assert told == [("shedding", ["infer"]), ("shedding", ["infer", "extract"]), ("normal", [])]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(status("infer", at_s=1, stopped=True), id="stopped"),
        pytest.param(status(worker="other", at_s=20), id="silent"),
    ],
)
def test_with_a_worker_goes_what_it_left_out(last: bytes) -> None:
    workers = Workers()
    workers.heard(status("infer"))
    assert [(message.kind, message.fields["worker"]) for message in workers.heard(last)] == [("normal", "w")]
    assert workers.shedding() == []


def test_bytes_that_are_none_are_refused() -> None:
    with pytest.raises(Undecodable, match="WorkerStatus"):
        Workers().heard(b"\xff\xff")


def test_subscribers_of_every_tenant_and_call_are_told_and_latecomers_too() -> None:
    hub = Hub(100)
    early = hub.join(lambda: None)
    hub.subscribe(early, Subscription(calls=frozenset({"c"}), tenant="acme"), T0)
    other = hub.join(lambda: None)
    hub.subscribe(other, Subscription(kinds=frozenset({"call"})), T0)
    for message in hub.workers.heard(status("infer", since_s=1)):
        hub.publish(message)
    late = hub.join(lambda: None)
    hub.subscribe(late, Subscription(), T0)
    shedding = {"worker": "w", "shed": ["infer"], "since_ns": T0 + SECOND_NS}
    answer, announced = drain(early)
    assert answer["shedding"] == []
    assert {name: announced[name] for name in ("type", "kind", "call_id", "stream", *shedding)} == {
        "type": "system",
        "kind": "shedding",
        "call_id": None,
        "stream": None,
        **shedding,
    }
    assert [message["type"] for message in drain(other)] == ["subscribed"]
    assert drain(late)[0]["shedding"] == [shedding]
    assert hub.calls.running(T0, Subscription()) == []
