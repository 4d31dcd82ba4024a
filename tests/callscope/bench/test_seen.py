"""The load test's bookkeeping: nothing is reported of a clean run, and everything that is missing or came twice is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from callscope.bench.seen import Seen, Spread, Summary

CALL = "bench-1-000"
BEGAN_NS = 1_000_000_000_000
SECONDS = 3.0
Message = dict[str, Any]


def message(type_: str, kind: str, start: float, end: float, *, leg: str = "customer", **more: Any) -> Message:
    """A result of audio that arrived when its last sample was spoken, and was pushed 50 ms later."""
    arrived_ns = BEGAN_NS + round(end * 1e9)
    stations = {"published": 5, "detected": 15, "extracted": 30, "inferred": 45, "pushed": 50}
    ledger = {f"{name}_ns": arrived_ns + ms * 1_000_000 for name, ms in stations.items()}
    return {
        "type": type_,
        "kind": kind,
        "call_id": CALL,
        "leg": leg,
        "stream": f"{CALL}/{leg}",
        "start": start,
        "duration": end - start,
        "is_final": False,
        "ledger": {"arrived_ns": arrived_ns, **ledger, "latency_ms": 50.0},
        **more,
    }


def levels(leg: str = "customer") -> list[Message]:
    return [message("activity", "level", n / 10, (n + 1) / 10, leg=leg) for n in range(round(SECONDS * 10))]


def spoken(start: float, end: float) -> list[Message]:
    """A segment: its start and end, a window every 100 ms, the utterance, and a judgement of each."""
    found = [message("activity", "speech_start", start, start, segment=start)]
    found += [
        message(type_, kind, start, start + n / 10, segment=start)
        for n in range(5, round((end - start) * 10) + 1)
        for type_, kind in (("features", "window"), ("insight", "arousal"))
    ]
    found.append(message("activity", "speech_end", start, end, segment=start))
    for type_, kind in (("features", "utterance"), ("insight", "arousal")):
        found.append(message(type_, kind, start, end, segment=start, is_final=True))
    return found


def clean() -> list[Message]:
    return [*levels(), *spoken(0.5, 1.5), *spoken(2.0, 2.8)]


def seen(messages: list[Message], *, published_s: float = SECONDS, from_ns: int | None = None) -> Summary:
    taken = Seen()
    taken.measure_from_ns = from_ns
    taken.call_began(CALL, ["customer"], BEGAN_NS, [(0.45, 1.95)], 60.0)
    for one in messages:
        taken.result(one, one["ledger"]["pushed_ns"] if "ledger" in one else BEGAN_NS)
    taken.call_ended(CALL, ["customer"], SECONDS, published_s)
    taken.finish(SECONDS)
    return taken.summary()


def without(type_: str, kind: str, n: int) -> list[Message]:
    """The clean run without the n-th message of a kind."""
    messages = clean()
    messages.remove([one for one in messages if (one["type"], one["kind"]) == (type_, kind)][n])
    return messages


def test_of_a_clean_run_nothing_is_reported() -> None:
    found = seen(clean())
    assert (found.lost, found.lost_because, found.duplicated, found.unpublished_s) == (0, [], 0, 0.0)
    assert found.latency == Spread(len(clean()), 50.0, 50.0, 50.0, 50.0)
    assert {name: of.count for name, of in found.by_type.items()} == {"activity": 34, "features": 12, "insight": 12}


def test_the_ledger_is_told_from_station_to_station() -> None:
    steps = {name: of.p50_ms for name, of in seen(clean()).stages.items()}
    assert steps == {"published": 5.0, "detected": 10.0, "extracted": 15.0, "inferred": 15.0, "pushed": 5.0}


def test_a_station_that_was_not_passed_is_left_out() -> None:
    messages = levels()
    for one in messages:
        one["ledger"]["extracted_ns"] = one["ledger"]["inferred_ns"] = None
    stages = seen(messages).stages
    assert stages["extracted"].count == stages["inferred"].count == 0
    assert stages["pushed"].p50_ms == 35.0


def test_a_start_of_speech_is_timed_from_the_onset() -> None:
    onset = seen(clean()).onset
    assert onset.count == 2
    assert onset.max_ms == pytest.approx(100.0)  # 50 ms after the onset, 50 ms on its way


@pytest.mark.parametrize(
    ("messages", "lost", "because"),
    [
        (lambda: without("activity", "level", 7), 1, "level: nothing of 0.10 s before 0.80 s"),
        (lambda: without("activity", "level", 0), 1, "level: nothing of 0.10 s before 0.10 s"),
        (lambda: [one for one in clean() if one["kind"] != "level" or one["start"] < 2.5], 5, "no level after 2.50 s"),
        (lambda: without("activity", "speech_start", 0), 1, "speech ended that had not started, at 1.50 s"),
        (lambda: without("activity", "speech_end", 0), 1, "speech started twice, at 2.00 s"),
        (lambda: without("activity", "speech_end", 1), 1, "speech did not end"),
        (lambda: without("features", "utterance", 0), 1, "no utterance of the segment at 0.50 s"),
        (lambda: without("features", "window", 3), 1, "windows are missing before 1.40 s"),
        (lambda: without("insight", "arousal", 3), 1, "arousal judged 11 of 12"),
        (lambda: [*clean(), {"type": "dropped", "count": 4}], 4, "interim results were dropped"),
    ],
)  # fmt: skip
def test_what_is_missing_is_found(messages: Callable[[], list[Message]], lost: int, because: str) -> None:
    found = seen(messages())
    assert because in "\n".join(found.lost_because)
    assert found.lost >= lost and found.duplicated == 0


def test_an_utterance_that_overtakes_the_start_of_its_speech_is_not_missing() -> None:
    messages = clean()
    start = next(one for one in messages if one["kind"] == "speech_start")
    messages.remove(start)
    utterance = next(n for n, one in enumerate(messages) if one["kind"] == "utterance")
    end = next(n for n, one in enumerate(messages) if one["kind"] == "speech_end")
    messages[end:end] = [messages.pop(utterance), start]
    assert seen(messages).lost == 0


def test_a_leg_of_which_nothing_came_has_lost_everything() -> None:
    found = seen([])
    assert found.lost == 30 and found.lost_because == [f"{CALL}/customer: no level after 0.00 s"]
    assert found.latency.count == 0


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("activity", "level"),
        ("activity", "speech_end"),
        ("features", "window"),
        ("features", "utterance"),
        ("insight", "arousal"),
    ],
)
def test_what_comes_twice_is_found(type_: str, kind: str) -> None:
    messages = clean()
    twice = next(n for n, one in enumerate(messages) if (one["type"], one["kind"]) == (type_, kind))
    found = seen([*messages[: twice + 1], *messages[twice:]])
    assert (found.duplicated, found.lost) == (1, 0)


def test_a_start_that_comes_twice_is_found() -> None:
    messages = clean()
    start = next(one for one in messages if one["kind"] == "speech_start")
    found = seen([*messages[: messages.index(start) + 1], start, *messages[messages.index(start) + 1 :]])
    assert found.lost == 1 and "speech started twice" in found.lost_because[0]


def test_a_call_that_is_taken_in_again_is_twice_all_of_it() -> None:
    assert seen([*levels(), *levels()]).duplicated == len(levels())


def test_audio_that_was_never_published_is_told() -> None:
    assert seen(clean(), published_s=SECONDS - 0.4).unpublished_s == pytest.approx(0.4)


def test_latencies_count_from_a_moment_on_and_losses_always() -> None:
    found = seen(without("activity", "level", 2), from_ns=BEGAN_NS + 2_000_000_000)
    assert found.lost == 1
    assert 0 < found.latency.count < len(clean())
    assert found.by_type["activity"].count == 13  # eleven levels from 2.0 s on, a start and an end


def test_results_of_other_calls_are_not_looked_at() -> None:
    messages = [{**one, "call_id": "someone-else"} for one in clean()]
    assert seen([*clean(), *messages]) == seen(clean())


def test_a_few_reasons_are_enough() -> None:
    found = seen([one for one in levels() if round(one["start"] * 10) % 2 == 0])
    assert found.lost == 14 and len(found.lost_because) == 10  # the last one is within what may be missing at the end


def test_a_spread_of_nothing_has_no_figures() -> None:
    assert Spread.of([]).count == 0 and Spread.of([]).p99_ms != Spread.of([]).p99_ms
    assert Spread.of([1.0, 2.0, 3.0]) == Spread(3, 2.0, 2.9, 2.98, 3.0)
