"""What a load test counts as lost, and what as shed."""

from __future__ import annotations

from typing import Any

from callscope.bench.seen import Seen

MS, S = 1_000_000, 1_000_000_000
T0 = 1_790_000_000 * S


def result(type_: str, kind: str, start: float, duration: float, at_ns: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": type_,
        "kind": kind,
        "call_id": "c",
        "leg": "customer",
        "stream": "c/customer",
        "start": start,
        "duration": duration,
        "is_final": kind == "utterance",
        "ledger": {"arrived_ns": at_ns, "latency_ms": 30.0, "extracted_ns": at_ns},
        **fields,
    }


def system(*shed: str, since_ns: int) -> dict[str, Any]:
    return {
        "type": "system",
        "kind": "shedding" if shed else "normal",
        "worker": "w",
        "shed": shed,
        "since_ns": since_ns,
    }


def heard(*announced: dict[str, Any], judged: int = 1) -> Seen:
    """Of a segment of 20 s, every window of the first second and the last one was made; some were judged."""
    seen = Seen()
    seen.call_began("c", ["customer"], T0, [()], 60.0)
    for message in announced:
        seen.result(message, T0)
    for n in range(10):
        end = 0.5 + n * 0.1
        at_ns = T0 + 10 * S + n * 100 * MS
        seen.result(result("features", "window", 0.0, end, at_ns, segment=0.0), at_ns)
        if n < judged:
            seen.result(result("insight", "arousal", 0.0, end, at_ns, segment=0.0), at_ns)
    return seen


def lost_and_shed(seen: Seen) -> tuple[int, int]:
    seen.finish(0.0)
    summary = seen.summary()
    return summary.lost, summary.shed


def test_windows_without_a_judgement_are_lost() -> None:
    assert lost_and_shed(heard(judged=4)) == (6, 0)


def test_unless_infer_was_shed_then() -> None:
    assert lost_and_shed(heard(system("infer", since_ns=T0 + 10 * S), judged=4)) == (0, 6)


def test_but_not_long_before_or_after() -> None:
    long_ago = [system("infer", since_ns=T0), system(since_ns=T0 + 5 * S)]
    assert lost_and_shed(heard(*long_ago, judged=4)) == (6, 0)
    much_later = [system("infer", since_ns=T0 + 30 * S), system(since_ns=T0 + 40 * S)]
    assert lost_and_shed(heard(*much_later, judged=4)) == (6, 0)


def test_a_subscriber_who_comes_late_knows_it_from_the_answer() -> None:
    answer = {"type": "subscribed", "shedding": [{"worker": "w", "shed": ["infer"], "since_ns": T0}]}
    assert lost_and_shed(heard(answer, judged=4)) == (0, 6)


def test_an_utterance_whose_features_were_left_out_is_shed_with_the_windows_it_lacks() -> None:
    seen = heard(judged=10)
    utterance = result("features", "utterance", 0.0, 2.0, T0 + 12 * S, segment=0.0, missing_because="shed")
    seen.result(utterance, T0 + 12 * S)
    seen.result(result("insight", "arousal", 0.0, 2.0, T0 + 12 * S, segment=0.0) | {"is_final": True}, T0 + 12 * S)
    assert lost_and_shed(seen) == (0, 1 + 6)
