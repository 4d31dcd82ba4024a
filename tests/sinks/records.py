"""Records for the sink's tests, as the topics carry them: pairs of topic and bytes. Times are seconds of media time."""

from collections.abc import Mapping, Sequence

from callscope.clock import wall_ns
from callscope.topics import CALL_EVENTS, VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.features_pb2 import FeatureWindow, VoiceSummary
from schemas.v1.insight_pb2 import Insight, Output
from schemas.v1.ledger_pb2 import Ledger
from sinks.messages import Message, message_of

Record = tuple[str, bytes]


def samples(seconds: float) -> int:
    return round(seconds * 16_000)


def ledger(arrived_ns: int | None = None) -> Ledger:
    arrived = wall_ns() if arrived_ns is None else arrived_ns
    return Ledger(arrived_ns=arrived, published_ns=arrived + 1_000_000, detected_ns=arrived + 9_000_000)


def activity(
    kind: VoiceActivity.Kind.ValueType,
    start: float,
    duration: float = 0.0,
    *,
    call: str = "c1",
    leg: str = "customer",
    speaking: bool | None = None,
    level_dbfs: float = -30.0,
    arrived_ns: int | None = None,
) -> Record:
    record = VoiceActivity(
        call_id=call,
        leg=leg,
        kind=kind,
        start=samples(start),
        duration=samples(duration),
        speaking=kind == VoiceActivity.SPEECH_START if speaking is None else speaking,
        probability=0.5,
        level_dbfs=level_dbfs,
        detector="webrtc",
        ledger=ledger(arrived_ns),
    )
    return VOICE_ACTIVITY.name, record.SerializeToString()


def level(
    start: float,
    *,
    call: str = "c1",
    leg: str = "customer",
    speaking: bool = False,
    level_dbfs: float = -30.0,
    arrived_ns: int | None = None,
) -> Record:
    return activity(
        VoiceActivity.LEVEL,
        start,
        0.1,
        call=call,
        leg=leg,
        speaking=speaking,
        level_dbfs=level_dbfs,
        arrived_ns=arrived_ns,
    )


def speech_start(start: float, *, call: str = "c1", leg: str = "customer", arrived_ns: int | None = None) -> Record:
    return activity(VoiceActivity.SPEECH_START, start, call=call, leg=leg, arrived_ns=arrived_ns)


def speech_end(start: float, duration: float, *, call: str = "c1", leg: str = "customer") -> Record:
    return activity(VoiceActivity.SPEECH_END, start, duration, call=call, leg=leg)


def features(
    start: float,
    duration: float,
    *,
    call: str = "c1",
    leg: str = "customer",
    kind: FeatureWindow.Kind.ValueType = FeatureWindow.WINDOW,
    f0_mean: float | None = 31.0,
    loudness: float = 0.8,
    lld: Sequence[float] = (),
    functionals: Sequence[float] = (),
) -> Record:
    record = FeatureWindow(
        call_id=call,
        leg=leg,
        segment=samples(start),
        kind=kind,
        start=samples(start),
        duration=samples(duration),
        coverage=1.0,
        lookahead=samples(0.08),
        feature_set="eGeMAPSv02",
        lld_first=0,
        lld=lld,
        functionals=functionals,
        summary=VoiceSummary(voiced_share=0.6, f0_mean=f0_mean, loudness_mean=loudness),
        ledger=ledger(),
    )
    return VOICE_FEATURES.name, record.SerializeToString()


def arousal(
    start: float,
    duration: float,
    value: float | None,
    *,
    call: str = "c1",
    leg: str = "customer",
    is_final: bool = False,
    unknown_because: str = "",
    arrived_ns: int | None = None,
) -> Record:
    record = Insight(
        call_id=call,
        leg=leg,
        segment=samples(start),
        model="arousal",
        model_version="1",
        start=samples(start),
        duration=samples(duration),
        is_final=is_final,
        outputs=[Output(name="arousal", value=value, unit="", unknown_because=unknown_because)],
        lookahead=samples(0.08),
        ledger=ledger(arrived_ns),
    )
    return VOICE_INSIGHTS.name, record.SerializeToString()


def call_event(
    kind: CallEvent.Kind.ValueType,
    *,
    call: str = "c1",
    leg: str = "",
    at: float = 0.0,
    time_ns: int | None = None,
    metadata: Mapping[str, str] | None = None,
    reason: str = "",
) -> Record:
    record = CallEvent(
        call_id=call,
        leg=leg,
        kind=kind,
        at=samples(at),
        time_ns=wall_ns() if time_ns is None else time_ns,
        source="websocket",
        encoding="mulaw",
        rate_hz=8_000,
        metadata=metadata or {},
        reason=reason,
    )
    return CALL_EVENTS.name, record.SerializeToString()


def call_started(
    call: str = "c1",
    legs: Sequence[str] = ("customer", "agent"),
    *,
    time_ns: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> list[Record]:
    return [
        call_event(CallEvent.CALL_STARTED, call=call, time_ns=time_ns, metadata=metadata),
        *(call_event(CallEvent.STREAM_STARTED, call=call, leg=leg, time_ns=time_ns, metadata=metadata) for leg in legs),
    ]


def message(record: Record) -> Message:
    found = message_of(*record)
    assert found is not None
    return found
