"""What a run found, as one number: a hash over its results that two runs share if, and only if, they found the same.

A result counts without its ledger (when which station was passed), and once, however often it was written. A stream's
digest is the SHA-256 of the SHA-256s of its results (topic, length, canonical bytes), sorted by kind, media time and
these; that of a run, the SHA-256 of its streams' names and digests, sorted by name. So neither the order in which
streams were worked on nor who worked on them leaves a trace, and where two runs differ, the streams that do are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from callscope.streams import StreamId
from callscope.topics import VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.features_pb2 import FeatureWindow
from schemas.v1.insight_pb2 import Insight

RESULTS: Final = (VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS)
"""Topics of results. voice.speech is none: it is a part of audio.frames, where its records are cut means nothing."""

_MESSAGES: Final[Mapping[str, Any]] = {
    VOICE_ACTIVITY.name: VoiceActivity,
    VOICE_FEATURES.name: FeatureWindow,
    VOICE_INSIGHTS.name: Insight,
}


class NoResult(ValueError):
    """Bytes that are no result of their topic."""


class Canonical(NamedTuple):
    """A result as it counts.

    Attributes:
        stream: whose it is.
        kind: of what kind: the topic's name, and the kind or model within it.
        at: media time, samples.
        value: its bytes, without the ledger.
    """

    stream: StreamId
    kind: str
    at: int
    value: bytes


def canonical(topic: str, value: bytes) -> Canonical:
    """A record of one of `RESULTS` as it counts.

    Args:
        topic: the live topic's name, also for what a replay wrote elsewhere.
        value: its bytes.

    Raises:
        NoResult: they are no record of that topic.
    """
    try:
        message = _MESSAGES[topic].FromString(value)
    except DecodeError as error:
        raise NoResult(f"not a record of {topic}: {error}") from error
    if not message.call_id or not message.leg:
        raise NoResult(f"a record of {topic} without call id or leg")
    message.ClearField("ledger")
    kind = message.model if topic == VOICE_INSIGHTS.name else str(int(message.kind))
    stream = StreamId(message.call_id, message.leg)
    return Canonical(stream, f"{topic} {kind}", message.start, message.SerializeToString(deterministic=True))


def seal(topic: str, value: bytes) -> bytes:
    """The SHA-256 of a result: 32 bytes.

    Args:
        topic: the live topic's name.
        value: its canonical bytes.
    """
    return hashlib.sha256(f"{topic} {len(value)} ".encode() + value).digest()


class Digests:
    """The digests of streams whose results come in any order. Holds about 200 bytes a result until they are taken."""

    def __init__(self) -> None:
        self._results: dict[StreamId, set[tuple[str, int, bytes]]] = {}

    def add(self, topic: str, value: bytes) -> StreamId:
        """Take in a result.

        Raises:
            NoResult: it is none.
        """
        result = canonical(topic, value)
        of_stream = self._results.setdefault(result.stream, set())
        of_stream.add((result.kind, result.at, seal(topic, result.value)))
        return result.stream

    def streams(self) -> list[StreamId]:
        """Those of which results came."""
        return list(self._results)

    def take(self, stream: StreamId) -> str | None:
        """A stream's digest in hexadecimal, and forget its results; None if there were none."""
        results = self._results.pop(stream, None)
        if results is None:
            return None
        whole = hashlib.sha256()
        for _, _, sealed in sorted(results):
            whole.update(sealed)
        return whole.hexdigest()


def combined(streams: Mapping[str, str]) -> str:
    """The digest of a run, in hexadecimal.

    Args:
        streams: name of a stream → its digest; those without results are not among them.
    """
    whole = hashlib.sha256()
    for name, digest in sorted(streams.items()):
        whole.update(f"{len(name)} {name} {digest}\n".encode())
    return whole.hexdigest()


def different(some: Mapping[str, str], others: Mapping[str, str], among: Iterable[str] | None = None) -> list[str]:
    """Streams whose digests are not the same, or that are missing on one side; sorted.

    Args:
        some: name → digest.
        others: name → digest.
        among: only of these; None: all.
    """
    names = set(some) | set(others) if among is None else set(among)
    return sorted(name for name in names if some.get(name) != others.get(name))
