"""Records from the topics as JSON messages: the contract with subscribers, described in docs/results.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from json import JSONEncoder
from typing import Any, Final

from google.protobuf.message import DecodeError

from callscope.feature_sets import FUNCTIONALS, LLDS
from callscope.streams import tenant_and_call_id
from callscope.topics import CALL_EVENTS, VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.features_pb2 import FeatureWindow, Moments, StreamStatistics, VoiceSummary
from schemas.v1.insight_pb2 import Insight
from schemas.v1.ledger_pb2 import Ledger

TYPES: Final = ("activity", "features", "insight", "call", "system")
"""What a subscriber can ask for; the `type` of every message that stands for a record."""

RATE_HZ: Final = 16_000
"""Media time on the topics counts samples at this rate."""

_SEMITONES_FROM_HZ: Final = 27.5
"""Pitch on the topics counts semitones from here."""

_DIGITS: Final = 4
At = tuple[int, int]
"""Partition and offset."""

ACTIVITY_KINDS: Final[Mapping[int, str]] = {
    VoiceActivity.LEVEL: "level",
    VoiceActivity.SPEECH_START: "speech_start",
    VoiceActivity.SPEECH_END: "speech_end",
}
WINDOW_KINDS: Final[Mapping[int, str]] = {FeatureWindow.WINDOW: "window", FeatureWindow.UTTERANCE: "utterance"}

_to_json: Final = JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Undecodable(ValueError):
    """A record's bytes are not what its topic promises."""


@dataclass(frozen=True)
class Message:
    """One record as subscribers see it, but for what differs between them: `seq`, `pushed_ns`, and parts asked for.

    Its JSON is made once, however many subscribers there are.

    Attributes:
        type: one of `TYPES`.
        kind: what of that type: "level", "speech_start", "window", the model's name, "call_started", ...
        id: the same for the same finding, however often it is computed: stream, kind and media time.
        call_id: the call; "" for what is about no call ("system").
        leg: the leg, or "" for what is about the whole call.
        start: media time, samples.
        duration: length, samples.
        is_final: False where a later message will say more of the same span.
        arrived_ns: when the last audio byte it depends on arrived, or the event was noticed; 0 if unknown.
        fields: what else the message says, ready for JSON.
        stations: the ledger's other entries, nanoseconds since the epoch, None for stations not passed.
        lld: low-level descriptors, row after row, of `lld_columns` each.
        lld_columns: how many there are in a row.
        functionals: of the window or utterance, by name.
        tenant: whose call it is; subscribers see the results of their own tenant only, and never its name.
        at: partition and offset of the record, by which a subscriber that comes back says what it has.
    """

    type: str
    kind: str
    id: str
    call_id: str
    leg: str
    start: int
    duration: int
    is_final: bool
    arrived_ns: int
    fields: Mapping[str, Any]
    stations: Mapping[str, int | None]
    lld: tuple[float, ...] = ()
    lld_columns: int = 0
    functionals: Mapping[str, float] = field(default_factory=dict)
    tenant: str = ""
    at: At | None = None

    @property
    def call(self) -> tuple[str, str]:
        """The call among those of all tenants."""
        return self.tenant, self.call_id

    @property
    def stream(self) -> str:
        """`<call id>/<leg>`, or the call id alone for what is about the whole call."""
        return f"{self.call_id}/{self.leg}" if self.leg else self.call_id

    def encode(self, seq: int, pushed_ns: int, *, lld: bool = False, functionals: bool = False) -> bytes:
        """The message for one subscriber, UTF-8.

        Args:
            seq: its number on the connection, from 1.
            pushed_ns: when it is written to the socket, nanoseconds since the epoch.
            lld: with the low-level descriptors, if it has any.
            functionals: with the functionals, if it has any.
        """
        latency_ms = b"%.3f" % ((pushed_ns - self.arrived_ns) / 1e6) if self.arrived_ns else b"null"
        return b'%b%b%b%b,"pushed_ns":%d,"latency_ms":%b},"at":%b,"seq":%d}' % (
            self._head,
            self._lld_part if lld and self.lld else b"",
            self._functionals_part if functionals and self.functionals else b"",
            self._ledger_part,
            pushed_ns,
            latency_ms,
            b"null" if self.at is None else b"[%d,%d]" % self.at,
            seq,
        )

    def kept(self) -> bytes:
        """The message as a line of a file, UTF-8: with everything it has, without what only a subscriber's copy has."""
        return b"%b%b%b%b}}" % (
            self._head,
            self._lld_part if self.lld else b"",
            self._functionals_part if self.functionals else b"",
            self._ledger_part,
        )

    @cached_property
    def _head(self) -> bytes:
        head = {
            "type": self.type,
            "kind": self.kind,
            "id": self.id,
            "call_id": self.call_id or None,
            "leg": self.leg or None,
            "stream": self.stream or None,
            "start": self.start / RATE_HZ,
            "duration": self.duration / RATE_HZ,
            "is_final": self.is_final,
            **self.fields,
        }
        return _to_json(head)[:-1].encode()

    @cached_property
    def _ledger_part(self) -> bytes:
        ledger = _to_json({"arrived_ns": self.arrived_ns or None, **self.stations})
        return b',"ledger":' + ledger[:-1].encode()

    @cached_property
    def _lld_part(self) -> bytes:
        width = self.lld_columns
        rows = (_json_floats(self.lld[at : at + width]) for at in range(0, len(self.lld), width))
        return b',"lld":[%b]' % ",".join(rows).encode()

    @cached_property
    def _functionals_part(self) -> bytes:
        pairs = (f'"{name}":{_json_float(value)}' for name, value in self.functionals.items())
        return b',"functionals":{%b}' % ",".join(pairs).encode()


def message_of(topic: str, value: bytes, at: At | None = None) -> Message | None:
    """What subscribers are told of a record.

    Args:
        topic: name of the topic it was read from, one of `RESULT_TOPICS`.
        value: the record's bytes.
        at: its partition and offset.

    Returns:
        None for a record that is between workers only, or of a kind this version does not know.

    Raises:
        Undecodable: these bytes cannot be a record of that topic.
    """
    try:
        return _READERS[topic](value, at)
    except DecodeError as error:
        raise Undecodable(f"not a {topic} record: {error}") from error


def control(kind: str, seq: int, fields: Mapping[str, Any]) -> bytes:
    """A message that stands for no record: "subscribed", "dropped", "error".

    Args:
        kind: its `type`.
        seq: its number on the connection, from 1.
        fields: what else it says.
    """
    return _to_json({"type": kind, **fields, "seq": seq}).encode()


def result_id(call_id: str, leg: str, type_: str, kind: str, start: int, duration: int, is_final: bool) -> str:
    """The id of a result: the same for the same finding, however often it is computed."""
    return f"{call_id}/{leg}|{type_}.{kind}|{start}+{duration}|{'final' if is_final else 'interim'}"


def _activity(value: bytes, at: At | None) -> Message | None:
    record = VoiceActivity.FromString(value)
    kind = ACTIVITY_KINDS.get(record.kind)
    if kind is None:
        return None
    return _message(
        "activity",
        kind,
        record,
        at,
        is_final=kind != "level",
        fields={
            "speaking": record.speaking,
            "probability": _rounded(record.probability),
            "level_dbfs": _rounded(record.level_dbfs),
            "segment": record.segment / RATE_HZ if record.HasField("segment") else None,
            "detector": record.detector,
        },
    )


def _features(value: bytes, at: At | None) -> Message | None:
    record = FeatureWindow.FromString(value)
    kind = WINDOW_KINDS.get(record.kind)
    if kind is None:
        return None
    names = FUNCTIONALS.get(record.feature_set, ())
    return _message(
        "features",
        kind,
        record,
        at,
        is_final=kind == "utterance",
        fields={
            "segment": record.segment / RATE_HZ,
            "coverage": _rounded(record.coverage),
            **({"missing_because": record.missing_because} if record.missing_because else {}),
            "lookahead_ms": _milliseconds(record.lookahead),
            "feature_set": record.feature_set,
            "summary": _summary(record.summary),
            **({"statistics": _statistics(record.statistics)} if record.HasField("statistics") else {}),
            "lld_first": record.lld_first,
        },
        lld=tuple(record.lld),
        lld_columns=len(LLDS.get(record.feature_set, ())) or len(record.lld),
        functionals=dict(zip(names, record.functionals, strict=False)),
    )


def _insight(value: bytes, at: At | None) -> Message | None:
    record = Insight.FromString(value)
    if record.stream_ended:
        return None
    outputs = {
        output.name: {
            "value": _rounded(output.value) if output.HasField("value") else None,
            "unit": output.unit,
            "unknown_because": output.unknown_because or None,
        }
        for output in record.outputs
    }
    return _message(
        "insight",
        record.model,
        record,
        at,
        is_final=record.is_final,
        fields={
            "segment": record.segment / RATE_HZ,
            "model_version": record.model_version,
            "lookahead_ms": _milliseconds(record.lookahead),
            "outputs": outputs,
            "caution": record.caution or None,
        },
    )


def _call(value: bytes, at: At | None) -> Message | None:
    record = CallEvent.FromString(value)
    kind = {
        CallEvent.CALL_STARTED: "call_started",
        CallEvent.CALL_ENDED: "call_ended",
        CallEvent.STREAM_STARTED: "stream_started",
        CallEvent.STREAM_ENDED: "stream_ended",
        CallEvent.GAP: "gap",
        CallEvent.CONSENT: "consent",
        CallEvent.DTMF: "dtmf",
        CallEvent.HELD: "held",
        CallEvent.RESUMED: "resumed",
        CallEvent.RECONNECTED: "reconnected",
    }.get(record.kind)
    if kind is None:
        return None
    tenant, call_id = tenant_and_call_id(record.call_id)
    stream = f"{call_id}/{record.leg}" if record.leg else call_id
    return Message(
        type="call",
        kind=kind,
        id=f"{stream}|call.{kind}|{record.at}+{record.duration}|{record.time_ns}",
        call_id=call_id,
        leg=record.leg,
        start=record.at,
        duration=record.duration,
        is_final=True,
        arrived_ns=record.time_ns,
        fields={
            "time_ns": record.time_ns,
            "source": record.source or None,
            "encoding": record.encoding or None,
            "rate_hz": record.rate_hz or None,
            "metadata": dict(record.metadata),
            "reason": record.reason or None,
            **_consent(record),
        },
        stations=_stations(Ledger()),
        tenant=tenant,
        at=at,
    )


def _consent(record: CallEvent) -> dict[str, Any]:
    if record.kind != CallEvent.CONSENT:
        return {}
    return {"analyse": record.allowed, "purposes": list(record.purposes)}


def _message(
    type_: str,
    kind: str,
    record: VoiceActivity | FeatureWindow | Insight,
    at: At | None,
    *,
    is_final: bool,
    fields: Mapping[str, Any],
    lld: tuple[float, ...] = (),
    lld_columns: int = 0,
    functionals: Mapping[str, float] | None = None,
) -> Message:
    tenant, call_id = tenant_and_call_id(record.call_id)
    return Message(
        type=type_,
        kind=kind,
        id=result_id(call_id, record.leg, type_, kind, record.start, record.duration, is_final),
        call_id=call_id,
        leg=record.leg,
        start=record.start,
        duration=record.duration,
        is_final=is_final,
        arrived_ns=record.ledger.arrived_ns,
        fields=fields,
        stations=_stations(record.ledger),
        lld=lld,
        lld_columns=lld_columns,
        functionals=functionals or {},
        tenant=tenant,
        at=at,
    )


def _stations(ledger: Ledger) -> dict[str, int | None]:
    return {
        "published_ns": ledger.published_ns or None,
        "detected_ns": ledger.detected_ns or None,
        "extracted_ns": ledger.extracted_ns or None,
        "inferred_ns": ledger.inferred_ns or None,
    }


def _summary(summary: VoiceSummary) -> dict[str, float | None]:
    def known(name: str) -> float | None:
        return _rounded(getattr(summary, name)) if summary.HasField(name) else None  # type: ignore[arg-type]  # literals

    def in_hz(semitones: float | None) -> float | None:
        return None if semitones is None else _rounded(_SEMITONES_FROM_HZ * 2.0 ** (semitones / 12))

    lowest, highest = known("f0_min"), known("f0_max")
    return {
        "voiced_share": _rounded(summary.voiced_share),
        "f0_mean": known("f0_mean"),
        "f0_stddev": known("f0_stddev"),
        "f0_min": lowest,
        "f0_max": highest,
        "f0_range": None if lowest is None or highest is None else _rounded(summary.f0_max - summary.f0_min),
        "f0_mean_hz": in_hz(known("f0_mean")),
        "f0_min_hz": in_hz(lowest),
        "f0_max_hz": in_hz(highest),
        "loudness_mean": _rounded(summary.loudness_mean),
        "level_dbfs": known("level_dbfs"),
        "speech_rate_hz": known("speech_rate_hz"),
        "alpha_ratio_mean": known("alpha_ratio_mean"),
        "hammarberg_mean": known("hammarberg_mean"),
        "jitter_mean": known("jitter_mean"),
        "shimmer_db_mean": known("shimmer_db_mean"),
        "hnr_db_mean": known("hnr_db_mean"),
    }


def _statistics(statistics: StreamStatistics) -> dict[str, Any]:
    def told(moments: Moments) -> dict[str, float | None]:
        known = moments.weight_s > 0
        return {
            "seconds": _rounded(moments.weight_s),
            "mean": _rounded(moments.mean) if known else None,
            "stddev": _rounded(math.sqrt(max(0.0, moments.squares / moments.weight_s))) if known else None,
        }

    return {
        "segments": statistics.segments,
        "f0": told(statistics.f0),
        "loudness": told(statistics.loudness),
        "level_dbfs": told(statistics.level_dbfs),
        "speech_rate_hz": told(statistics.speech_rate_hz),
    }


def _milliseconds(samples: int) -> float:
    return samples * 1_000 / RATE_HZ


def _rounded(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None


def _json_float(value: float) -> str:
    """Nine significant digits give every float32 back exactly; "-0" would be read as an integer; JSON has no NaN."""
    return repr(float(f"{value:.9g}")) if math.isfinite(value) else "null"


def _json_floats(values: Iterable[float]) -> str:
    return "[" + ",".join(map(_json_float, values)) + "]"


_READERS: Final[Mapping[str, Callable[[bytes, At | None], Message | None]]] = {
    VOICE_ACTIVITY.name: _activity,
    VOICE_FEATURES.name: _features,
    VOICE_INSIGHTS.name: _insight,
    CALL_EVENTS.name: _call,
}

RESULT_TOPICS: Final = tuple(_READERS)
"""Names of the topics whose records subscribers see."""

TYPE_OF: Final = {
    VOICE_ACTIVITY.name: "activity",
    VOICE_FEATURES.name: "features",
    VOICE_INSIGHTS.name: "insight",
    CALL_EVENTS.name: "call",
}
"""Topic → the type of the messages about its records."""
TOPIC_OF: Final = {type_: topic for topic, type_ in TYPE_OF.items()}
