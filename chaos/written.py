"""What the topics hold of each call, as the digest counts it (callscope/replay/digest.py)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import TopicPartition

from callscope.clock import monotonic
from callscope.config import Settings
from callscope.errors import CallscopeError
from callscope.kafka import consumer
from callscope.replay.digest import RESULTS, Digests, NoResult, canonical
from callscope.topics import VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS
from chaos.calls import LEGS, line_of
from chaos.verdict import Place
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.features_pb2 import FeatureWindow
from schemas.v1.insight_pb2 import Insight

SETTLED_S: Final = 2.0
"""Nothing more may come for so long after the last stream's end."""

_MESSAGES: Final[Mapping[str, Any]] = {
    VOICE_ACTIVITY.name: VoiceActivity,
    VOICE_FEATURES.name: FeatureWindow,
    VOICE_INSIGHTS.name: Insight,
}


@dataclass(slots=True)
class Results:
    """What was found in one call, under its line's name.

    Attributes:
        digests: of its streams.
        places: stream → place → hashes of what is there; more than one only where workers disagreed.
        ended: legs whose last result is there.
        records: how many, copies included.
    """

    digests: Digests = field(default_factory=Digests)
    places: dict[str, dict[Place, set[int]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    ended: set[str] = field(default_factory=set)
    records: int = 0

    def add(self, topic: str, value: bytes) -> None:
        """Take a record in.

        Raises:
            NoResult: it is none.
        """
        message = _MESSAGES[topic].FromString(value)
        message.call_id = line_of(message.call_id)
        renamed = message.SerializeToString(deterministic=True)
        stream = str(self.digests.add(topic, renamed))
        result = canonical(topic, renamed)
        self.places[stream][result.kind, result.at].add(hash(result.value))
        self.records += 1
        if topic == VOICE_INSIGHTS.name and message.stream_ended:
            self.ended.add(message.leg)

    def by_stream(self) -> dict[str, str]:
        """Stream → its digest."""
        return {str(stream): str(self.digests.take(stream)) for stream in self.digests.streams()}


class Written:
    """Reads all result topics from their beginnings on, and goes on where it was; close it.

    Args:
        settings: where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._consumer: Any = consumer(settings, **{"enable.partition.eof": True})
        self._partitions = [TopicPartition(t.name, n, 0) for t in RESULTS for n in range(settings.topics.partitions)]
        self._consumer.assign(self._partitions)
        self._calls: dict[str, Results] = defaultdict(Results)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def await_calls(self, calls: Collection[str], patience_s: float) -> dict[str, Results]:
        """Read until all streams of some calls have ended and no more comes; then forget these calls.

        Args:
            calls: their ids.
            patience_s: how long to wait for the ends at most.

        Returns:
            Line → what was found in its call, also where it is not all that should be there.
        """
        deadline = monotonic() + patience_s
        settled_at = None
        while settled_at is None or monotonic() < settled_at:
            if settled_at is None and all(self._calls[call].ended == set(LEGS) for call in calls):
                settled_at = monotonic() + SETTLED_S
            if monotonic() > deadline:
                break
            for message in self._consumer.consume(500, 0.2):
                error = message.error()
                if error is None:
                    self._take(message.topic(), message.key() or b"", message.value() or b"")
                elif error.fatal():
                    raise CallscopeError(f"The results cannot be read back from Kafka: {error.str()}")
        return {line_of(call): self._calls.pop(call, Results()) for call in calls}

    def _take(self, topic: str, key: bytes, value: bytes) -> None:
        call_id = key.decode().rpartition("/")[0]
        try:
            self._calls[call_id].add(topic, value)
        except NoResult as error:
            raise CallscopeError(f"A worker wrote what is no result into {topic}: {error}") from error
