"""The topics as data: names, keys, values, partitions, retention; and where a call's records go."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from aiokafka.partitioner import murmur2

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: the topic's name, an interface.
        key: what its records are keyed by: "stream" (`<call id>/<leg>`), "call" (`<call id>`), "worker" (its name),
            "record" (where another record lay: `<topic>/<partition>/<offset>`) or "mark" (`<group> <topic> <stream>`).
        value: full name of the Protobuf message, also sent in the `schema` header.
        writer: the program that writes it.
        retention_ms: how long records are kept.
        compacted: of a key's records only the last need be kept.
        stamped_by_broker: its records bear the time at which the broker took them, by its clock; else their writer's.
            Readers begin where records of the last minutes lie: of many writers' clocks one may be hours ahead.
    """

    name: str
    key: str
    value: str
    writer: str
    retention_ms: int
    compacted: bool = False
    stamped_by_broker: bool = False


AUDIO_FRAMES = Topic("audio.frames", "stream", "callscope.v1.AudioFrame", "ingest", DAY_MS)
CALL_EVENTS = Topic("call.events", "call", "callscope.v1.CallEvent", "ingest", 30 * DAY_MS)
VOICE_ACTIVITY = Topic(
    "voice.activity", "stream", "callscope.v1.VoiceActivity", "detect", 7 * DAY_MS, stamped_by_broker=True
)
VOICE_SPEECH = Topic("voice.speech", "stream", "callscope.v1.SpeechFrame", "detect", DAY_MS, stamped_by_broker=True)
VOICE_FEATURES = Topic(
    "voice.features", "stream", "callscope.v1.FeatureWindow", "extract", 7 * DAY_MS, stamped_by_broker=True
)
VOICE_INSIGHTS = Topic("voice.insights", "stream", "callscope.v1.Insight", "infer", 7 * DAY_MS, stamped_by_broker=True)
WORKER_STATUS = Topic("worker.status", "worker", "callscope.v1.WorkerStatus", "processors", DAY_MS)
WORKER_MARKS = Topic("worker.marks", "mark", "callscope.v1.StreamMark", "processors", DAY_MS, compacted=True)
"""From where workers rebuild what they know of streams; kept as long as the audio that they point to."""
DEAD_LETTERS = Topic("dead.letters", "record", "callscope.v1.DeadLetter", "processors, sink", 7 * DAY_MS)

TOPICS = (AUDIO_FRAMES, CALL_EVENTS, VOICE_ACTIVITY, VOICE_SPEECH, VOICE_FEATURES, VOICE_INSIGHTS)
"""Every topic about calls. All have the same number of partitions, so that a call has the same one everywhere."""

ALL_TOPICS = (*TOPICS, WORKER_STATUS, WORKER_MARKS, DEAD_LETTERS)
"""These, what the workers say of themselves and to those after them, and what could not be worked on."""

DEFAULT_PARTITIONS = 8


@lru_cache(maxsize=65_536)
def partition_of(call_id: str, partitions: int) -> int:
    """The partition of everything about a call, 0 to `partitions` - 1.

    It is Kafka's default partitioner applied to the call id (murmur2, as the Java client has it), so that any client
    which keys a record by call id agrees without knowing us.
    """
    return int((murmur2(call_id.encode()) & 0x7FFFFFFF) % partitions)
