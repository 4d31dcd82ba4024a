from __future__ import annotations

from dataclasses import replace

from chaos.verdict import Found, judge

STREAM = "line00/agent"
LEVEL, WINDOW = ("voice.activity 1", 1_600), ("voice.features 1", 8_000)
UNDISTURBED = Found(
    {STREAM: "a1", "line00/customer": "b2"},
    {STREAM: {LEVEL: frozenset({1}), WINDOW: frozenset({2})}},
    {"line00": {"/agent|activity.speech_end|0+1600|final": 1, "/customer|features.utterance|0+8000|final": 1}},
)


def test_the_same_is_good() -> None:
    assert judge(UNDISTURBED, replace(UNDISTURBED)).good


def test_streams_that_differ_are_named_and_so_is_what_differs() -> None:
    places = {STREAM: {LEVEL: frozenset({1, 7}), ("voice.insights arousal", 16_000): frozenset({3})}}
    verdict = judge(UNDISTURBED, replace(UNDISTURBED, digests={**UNDISTURBED.digests, STREAM: "a2"}, places=places))
    assert not verdict.good
    assert verdict.different == (STREAM,)
    assert verdict.because == (
        f"{STREAM}: 1 results: missing; the first: voice.features 1 at 0.500 s",
        f"{STREAM}: 1 results: not in the undisturbed round; the first: voice.insights arousal at 1.000 s",
        f"{STREAM}: 1 results: other bytes; the first: voice.activity 1 at 0.100 s",
    )


def test_a_stream_of_which_nothing_was_found_differs() -> None:
    digests = {STREAM: "a1"}
    assert judge(UNDISTURBED, replace(UNDISTURBED, digests=digests)).different == ("line00/customer",)


def test_finals_that_were_not_told_or_told_twice_are_counted() -> None:
    finals = {"line00": {"/agent|activity.speech_end|0+1600|final": 3}}
    verdict = judge(UNDISTURBED, replace(UNDISTURBED, finals=finals))
    assert not verdict.good
    assert (verdict.lost, verdict.twice, verdict.strange) == (1, 2, 0)
    assert "line00/agent|activity.speech_end|0+1600|final: told 3 times" in verdict.because


def test_finals_that_nobody_should_have_got_are_counted() -> None:
    line = {**UNDISTURBED.finals["line00"], "/agent|activity.speech_end|5+1600|final": 1}
    verdict = judge(UNDISTURBED, replace(UNDISTURBED, finals={"line00": line}))
    assert (verdict.lost, verdict.twice, verdict.strange) == (0, 0, 1)
    assert not verdict.good
