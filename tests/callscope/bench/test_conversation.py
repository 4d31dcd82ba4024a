"""Laid-out calls: how much each leg speaks, where, and that no two are alike."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from callscope.bench.conversation import converse, utterances
from processors.records import RATE_HZ, Pcm
from tests.signals import demo_leg, hush, join, voice

SECONDS = 60.0


@pytest.fixture(scope="module")
def spoken() -> list[list[Pcm]]:
    """What the two legs of the shipped call say."""
    return [utterances(demo_leg(leg), RATE_HZ) for leg in (0, 1)]


@pytest.mark.parametrize("seed", range(8))
def test_each_leg_speaks_half_of_the_time(spoken: list[list[Pcm]], seed: int) -> None:
    made = converse(spoken, RATE_HZ, SECONDS, seed)
    assert made.pcm.shape == (SECONDS * RATE_HZ, 2) and made.pcm.dtype == np.int16
    assert made.rate_hz == RATE_HZ
    for share in made.speech_shares:
        assert 0.44 <= share <= 0.51


def test_over_many_calls_the_shares_are_what_is_promised(spoken: list[list[Pcm]]) -> None:
    shares = [share for seed in range(20) for share in converse(spoken, RATE_HZ, SECONDS, seed).speech_shares]
    assert 0.45 <= float(np.mean(shares)) <= 0.50


def test_an_utterance_is_heard_where_it_is_said_to_begin(spoken: list[list[Pcm]]) -> None:
    made = converse(spoken, RATE_HZ, SECONDS, seed=3)
    for leg, onsets in enumerate(made.onsets):
        assert len(onsets) > 5 and list(onsets) == sorted(onsets)
        looked_at = 0
        for onset in onsets:
            at = round(onset * RATE_HZ)
            said = made.pcm[at : at + RATE_HZ // 5, leg].astype(float)
            if len(said) < RATE_HZ // 5 or np.abs(made.pcm[max(0, at - 1_600) : at, leg]).max(initial=0) > 100:
                continue  # cut by the end, or begun before this leg's last utterance had ended
            likely = max(float(np.corrcoef(said, words[: len(said)])[0, 1]) for words in spoken[leg])
            assert likely > 0.7, f"leg {leg} at {onset:.2f} s"
            looked_at += 1
        assert looked_at > 5


def test_between_the_utterances_is_only_the_lines_noise(spoken: list[list[Pcm]]) -> None:
    made = converse(spoken, RATE_HZ, SECONDS, seed=0)
    for leg in (0, 1):
        before = made.pcm[: round(made.onsets[leg][0] * RATE_HZ), leg]
        assert np.abs(before).max(initial=0) < 100


def test_turns_alternate_and_now_and_then_overlap(spoken: list[list[Pcm]]) -> None:
    made = converse(spoken, RATE_HZ, 300.0, seed=1)
    turns = sorted((onset, leg) for leg, onsets in enumerate(made.onsets) for onset in onsets)
    changes = sum(a[1] != b[1] for a, b in pairwise(turns))
    assert changes > 0.5 * len(turns)
    loud = np.abs(made.pcm[: len(made.pcm) // 160 * 160].reshape(-1, 160, 2)).max(axis=1) > 500
    assert 0 < (loud[:, 0] & loud[:, 1]).mean() < 0.1


def test_a_seed_names_a_call(spoken: list[list[Pcm]]) -> None:
    first, again, other = (converse(spoken, RATE_HZ, 20.0, seed) for seed in (5, 5, 6))
    assert np.array_equal(first.pcm, again.pcm) and first.onsets == again.onsets
    assert not np.array_equal(first.pcm, other.pcm) and first.onsets != other.onsets


def test_a_lone_leg_listens_as_long_as_it_speaks(spoken: list[list[Pcm]]) -> None:
    made = converse(spoken[:1], RATE_HZ, SECONDS, seed=0)
    assert made.pcm.shape == (SECONDS * RATE_HZ, 1)
    assert 0.4 <= made.speech_shares[0] <= 0.55


def test_utterances_lie_between_pauses() -> None:
    first, second = voice(1.0, seed=1), voice(0.6, seed=2)
    found = utterances(join(hush(0.5), first, hush(0.5), second, hush(0.5)), RATE_HZ)
    assert [len(words) / RATE_HZ for words in found] == [pytest.approx(1.0, abs=0.1), pytest.approx(0.6, abs=0.1)]


def test_a_short_pause_ends_no_utterance_and_a_click_is_none() -> None:
    said = [hush(0.5), voice(0.6, seed=1), hush(0.2), voice(0.6, seed=2), hush(0.8), voice(0.1), hush(0.5)]
    found = utterances(join(*said), RATE_HZ)
    assert [len(words) / RATE_HZ for words in found] == [pytest.approx(1.4, abs=0.1)]


@pytest.mark.parametrize("silence", [hush(2.0), np.zeros(RATE_HZ, np.int16), np.zeros(0, np.int16)])
def test_silence_says_nothing(silence: Pcm) -> None:
    assert utterances(silence, RATE_HZ) == []


def test_a_leg_without_words_is_an_error(spoken: list[list[Pcm]]) -> None:
    with pytest.raises(ValueError, match="holds no speech"):
        converse([spoken[0], []], RATE_HZ, 1.0, seed=0)
