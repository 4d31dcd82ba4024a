"""Whether a round found what the undisturbed one did; pure.

A line says the same in every round, so what is found of it must be the same: every result in the topics, bit by bit,
and every final result at the subscriber, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from callscope.replay.digest import combined, different

_TOLD: Final = 8
"""Differences that are told in words."""
_RATE_HZ: Final = 16_000

Place = tuple[str, int]
"""A result's kind, and its media time in samples."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one round; calls go by the names of their lines.

    Attributes:
        digests: stream → the digest of its results in the topics.
        places: stream → place → hashes of what is there; more than one where workers disagreed.
        finals: line → final result → how often the subscriber got it.
    """

    digests: Mapping[str, str]
    places: Mapping[str, Mapping[Place, frozenset[int]]]
    finals: Mapping[str, Mapping[str, int]]

    @property
    def digest(self) -> str:
        """Of the whole round."""
        return combined(self.digests)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was wrong, if anything.

    Attributes:
        different: streams whose digests are not those of the undisturbed round.
        lost: final results that the subscriber should have got and did not.
        twice: final results that it got more than once, beyond the first.
        strange: final results that it should not have got.
        because: the first few differences, in words.
    """

    different: tuple[str, ...]
    lost: int
    twice: int
    strange: int
    because: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing was."""
        return not (self.different or self.lost or self.twice or self.strange)


def judge(undisturbed: Found, found: Found) -> Verdict:
    """Compare a round with the undisturbed one."""
    streams = different(undisturbed.digests, found.digests)
    lost = twice = strange = 0
    because = [text for stream in streams for text in _differences(stream, undisturbed, found)]
    for line in sorted({*undisturbed.finals, *found.finals}):
        wanted, got = undisturbed.finals.get(line, {}), found.finals.get(line, {})
        lost += len(wanted.keys() - got.keys())
        strange += len(got.keys() - wanted.keys())
        twice += sum(count - 1 for count in got.values())
        because += [f"{line}{name}: not told to the subscriber" for name in sorted(wanted.keys() - got.keys())]
        because += [f"{line}{name}: told {count} times" for name, count in sorted(got.items()) if count > 1]
    return Verdict(tuple(streams), lost, twice, strange, tuple(because[:_TOLD]))


def _differences(stream: str, undisturbed: Found, found: Found) -> Iterator[str]:
    wanted, there = undisturbed.places.get(stream, {}), found.places.get(stream, {})
    kinds = {
        "missing": wanted.keys() - there.keys(),
        "not in the undisturbed round": there.keys() - wanted.keys(),
        "other bytes": {place for place in wanted.keys() & there.keys() if wanted[place] != there[place]},
    }
    for what, places in kinds.items():
        if places:
            kind, at = min(places, key=lambda place: (place[1], place[0]))
            yield f"{stream}: {len(places)} results: {what}; the first: {kind} at {at / _RATE_HZ:.3f} s"
