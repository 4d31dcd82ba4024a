"""What subscribers have been told already, and where in Kafka it first lay: so that no finding is told twice.

A worker that takes over after a crash reads some audio again and writes the same findings again: same id, and the same
audio behind them (`arrived_ns`; an id that comes with younger audio is that of a later stream which bears the name).

- Finals are remembered one by one, each with the offset where it was first seen.
- Interim findings of a stream come in the order of media time: the newest of each kind is enough to tell old from new.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from sinks.messages import Message
from sinks.outline import Outline

FINALS: Final = 131_072
"""Finals remembered: about 20 minutes of 100 legs; some 30 MB."""
INTERIMS: Final = 65_536
"""Streams' kinds of interim findings remembered; the ones heard least recently go first."""

Place = tuple[str, int]
"""A partition of a topic of results, the topic by the type of its messages: ("activity", 3)."""


Finding = Message | Outline
"""What tells one finding from another."""


class Memory:
    """Bounded; what is forgotten is told by `known_from`.

    Args:
        finals: how many are remembered.
    """

    def __init__(self, finals: int = FINALS) -> None:
        self._limit = finals
        self._finals: dict[int, int] = {}
        self._order: deque[tuple[int, Place, int]] = deque()
        self._known_from: dict[Place, int] = {}
        self._newest: OrderedDict[tuple[str, str, str, str, str], tuple[int, int]] = OrderedDict()

    def is_news(self, finding: Finding, partition: int, offset: int) -> bool:
        """Whether it was not there before; from now on it was.

        Args:
            finding: what was read.
            partition: where.
            offset: likewise.
        """
        if not finding.is_final:
            return self._is_newest(finding)
        key = _key(finding)
        if key in self._finals:
            return False
        self._finals[key] = offset
        self._order.append((key, (finding.type, partition), offset))
        if len(self._order) > self._limit:
            forgotten, place, at = self._order.popleft()
            del self._finals[forgotten]
            self._known_from[place] = at + 1
        return True

    def is_first(self, finding: Finding, offset: int) -> bool:
        """Whether a final that is read once more lies where it was first seen."""
        return self._finals.get(_key(finding), offset) == offset

    def known_from(self, place: Place) -> int:
        """All finals of a partition from this offset on that were read are remembered."""
        return self._known_from.get(place, 0)

    def _is_newest(self, finding: Finding) -> bool:
        track = (finding.tenant, finding.call_id, finding.leg, finding.type, finding.kind)
        end = finding.start + finding.duration
        before = self._newest.get(track)
        if before is not None and finding.arrived_ns <= before[0] and end <= before[1]:
            return False
        self._newest[track] = finding.arrived_ns, end
        self._newest.move_to_end(track)
        if len(self._newest) > INTERIMS:
            self._newest.popitem(last=False)
        return True


def _key(finding: Finding) -> int:
    """64 bits: among 131,072 a false match has a chance of 1 in 10^14 or so."""
    audio = finding.arrived_ns if finding.type in ("activity", "features", "insight") else 0
    return hash((finding.tenant, finding.id, audio))
