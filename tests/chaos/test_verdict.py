"""A verdict is good only where nothing differs, and says what does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.verdict import Found, judge

FOUND = Found(
    digests={"a/customer": "1" * 64, "a/agent": "2" * 64},
    places={"a/customer": {("voice.activity 1", 16_000): frozenset({7})}, "a/agent": {}},
    finals={"a": {"/customer speech_end 1.0": 1, "/agent utterance 2.0": 1}},
)


def test_the_same_is_good() -> None:
    verdict = judge(FOUND, FOUND)
    assert verdict.good
    assert verdict.because == ()


@pytest.mark.parametrize(
    ("changed", "lost", "twice", "strange"),
    [
        ({"finals": {"a": {"/customer speech_end 1.0": 1}}}, 1, 0, 0),
        ({"finals": {"a": {"/customer speech_end 1.0": 1, "/agent utterance 2.0": 3}}}, 0, 2, 0),
        ({"finals": {"a": {**FOUND.finals["a"], "/agent utterance 9.0": 1}}}, 0, 0, 1),
        ({"finals": {}}, 2, 0, 0),
    ],
)
def test_finals_are_counted(changed: dict[str, dict[str, dict[str, int]]], lost: int, twice: int, strange: int) -> None:
    verdict = judge(FOUND, replace(FOUND, finals=changed["finals"]))
    assert (verdict.lost, verdict.twice, verdict.strange) == (lost, twice, strange)
    assert not verdict.good


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({}, "1 results: missing"),
        ({("voice.activity 1", 16_000): frozenset({8})}, "1 results: other bytes"),
        (
            {("voice.activity 1", 16_000): frozenset({7}), ("voice.activity 1", 32_000): frozenset({7})},
            "not in the undisturbed",
        ),
    ],
)
def test_a_digest_that_differs_is_told_in_words(there: dict[tuple[str, int], frozenset[int]], says: str) -> None:
    other = replace(
        FOUND, digests={**FOUND.digests, "a/customer": "3" * 64}, places={**FOUND.places, "a/customer": there}
    )
    verdict = judge(FOUND, other)
    assert verdict.different == ("a/customer",)
    assert not verdict.good
    assert says in verdict.because[0]


def test_a_stream_without_results_differs() -> None:
    verdict = judge(FOUND, replace(FOUND, digests={"a/agent": "2" * 64}))
    assert verdict.different == ("a/customer",)
