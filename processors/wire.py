"""Bytes to records and back: with `processors.mark_wire` the only module here that knows Protobuf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message

from callscope.feature_sets import EGEMAPS_LLDS
from callscope.streams import StreamId, is_name, tenant_and_call_id
from callscope.topics import AUDIO_FRAMES, VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS, VOICE_SPEECH, Topic
from processors.records import (
    FRAME_SAMPLES,
    ActivityKind,
    AudioFrame,
    Consent,
    Envelope,
    FeatureWindow,
    Insight,
    InsightsEnd,
    Ledger,
    Output,
    Record,
    SpeechFrame,
    StreamStatistics,
    VoiceActivity,
    VoiceSummary,
    WindowKind,
)
from processors.stages.baseline import Baseline
from schemas.v1 import activity_pb2, audio_pb2, events_pb2, features_pb2, insight_pb2, ledger_pb2

LLD_COLUMNS = len(EGEMAPS_LLDS)
"""Low-level descriptors of eGeMAPSv02."""

_LATEST = 2**53
"""No media time is later: that is where whole numbers end to be exact as floats, after 17,000 years."""
_NO_AUDIO = np.zeros(0, np.int16)
_NO_AUDIO.flags.writeable = False


class Undecodable(ValueError):
    """A record's bytes are not what its topic promises."""


def topic_of(record: Record) -> Topic:
    """The topic a record belongs on."""
    return _TOPIC_OF[type(record)]


def encode(envelope: Envelope) -> bytes:
    """The record and its ledger as the bytes of its topic; equal records give equal bytes."""
    message = _TO_MESSAGE[type(envelope.record)](envelope.record)
    message.ledger.CopyFrom(_ledger_message(envelope.ledger))
    return bytes(message.SerializeToString(deterministic=True))


def decode(topic: str, value: bytes, offset: int = -1) -> Envelope:
    """What `encode` made of it.

    Args:
        topic: name of the topic it was read from.
        value: the record's bytes.
        offset: where it was read.

    Raises:
        Undecodable: these bytes cannot be a record of that topic; the message says why.
    """
    kind, read = _FROM_MESSAGE[topic]
    try:
        message: Any = kind.FromString(value)
    except DecodeError as error:
        raise Undecodable(f"not a {kind.DESCRIPTOR.full_name}: {error}") from error
    if not _is_stream(message.call_id, message.leg):
        raise Undecodable(f"a {kind.DESCRIPTOR.full_name} without a proper call id and leg")
    try:
        record = read(message)
    except ValueError as error:
        raise Undecodable(f"a {kind.DESCRIPTOR.full_name} with an impossible value: {error}") from error
    ledger = message.ledger
    return Envelope(
        record,
        Ledger(ledger.arrived_ns, ledger.published_ns, ledger.detected_ns, ledger.extracted_ns, ledger.inferred_ns),
        offset,
    )


def decode_consent(value: bytes, written_ms: int) -> Consent | None:
    """What a record of `call.events` says of consent; None for an event of another kind.

    Args:
        value: the record's bytes.
        written_ms: the record's timestamp, milliseconds since the epoch.

    Raises:
        Undecodable: these bytes cannot be a call event.
    """
    try:
        message = events_pb2.CallEvent.FromString(value)
    except DecodeError as error:
        raise Undecodable(f"not a callscope.v1.CallEvent: {error}") from error
    if message.kind != events_pb2.CallEvent.CONSENT:
        return None
    return Consent(message.call_id, message.leg, message.at, message.allowed, tuple(message.purposes), written_ms)


@lru_cache(maxsize=65_536)
def _is_stream(topic_call_id: str, leg: str) -> bool:
    tenant, call_id = tenant_and_call_id(topic_call_id)
    return is_name(call_id) and is_name(leg) and "/" not in tenant


def _media_time(samples: int) -> int:
    if samples > _LATEST:
        raise Undecodable(f"a media time of {samples} samples")
    return samples


def _ledger_message(ledger: Ledger) -> ledger_pb2.Ledger:
    return ledger_pb2.Ledger(
        arrived_ns=ledger.arrived_ns,
        published_ns=ledger.published_ns,
        detected_ns=ledger.detected_ns,
        extracted_ns=ledger.extracted_ns,
        inferred_ns=ledger.inferred_ns,
    )


def _pcm(message: audio_pb2.AudioFrame | audio_pb2.SpeechFrame) -> np.ndarray[Any, np.dtype[np.int16]]:
    if len(message.pcm) % 2:
        raise Undecodable(f"{len(message.pcm)} bytes of 16-bit audio")
    return np.frombuffer(message.pcm, "<i2") if message.pcm else _NO_AUDIO


def _audio_frame_to(record: AudioFrame) -> audio_pb2.AudioFrame:
    return audio_pb2.AudioFrame(
        call_id=record.stream.call_id,
        leg=record.stream.leg,
        seq=record.seq,
        start=record.start,
        pcm=record.pcm.astype("<i2", copy=False).tobytes(),
        gap_before=record.gap_before,
        last=record.last,
    )


def _audio_frame_from(message: audio_pb2.AudioFrame) -> AudioFrame:
    stream = StreamId(message.call_id, message.leg)
    pcm = _pcm(message)
    if len(pcm) % FRAME_SAMPLES:
        raise Undecodable(f"{len(pcm)} samples, which are no whole frames of {FRAME_SAMPLES}")
    start, gap = _media_time(message.start), _media_time(message.gap_before)
    return AudioFrame(stream, message.seq, start, pcm, gap, message.last)


def _speech_frame_to(record: SpeechFrame) -> audio_pb2.SpeechFrame:
    return audio_pb2.SpeechFrame(
        call_id=record.stream.call_id,
        leg=record.stream.leg,
        segment=record.segment,
        start=record.start,
        pcm=record.pcm.astype("<i2", copy=False).tobytes(),
        last=record.last,
        stream_ended=record.stream_ended,
        lost=record.lost,
    )


def _speech_frame_from(message: audio_pb2.SpeechFrame) -> SpeechFrame:
    stream = StreamId(message.call_id, message.leg)
    segment, start = _media_time(message.segment), _media_time(message.start)
    return SpeechFrame(stream, segment, start, _pcm(message), message.last, message.stream_ended, message.lost)


def _activity_to(record: VoiceActivity) -> activity_pb2.VoiceActivity:
    return activity_pb2.VoiceActivity(
        call_id=record.stream.call_id,
        leg=record.stream.leg,
        kind=activity_pb2.VoiceActivity.Kind.ValueType(record.kind),
        start=record.start,
        duration=record.duration,
        speaking=record.speaking,
        probability=record.probability,
        level_dbfs=record.level_dbfs,
        segment=record.segment,
        detector=record.detector,
    )


def _activity_from(message: activity_pb2.VoiceActivity) -> VoiceActivity:
    return VoiceActivity(
        StreamId(message.call_id, message.leg),
        ActivityKind(message.kind),
        message.start,
        message.duration,
        message.speaking,
        message.probability,
        message.level_dbfs,
        message.segment if message.HasField("segment") else None,
        message.detector,
    )


_SUMMARY_FIELDS = tuple(VoiceSummary.__dataclass_fields__)
_ALWAYS_KNOWN = ("voiced_share", "loudness_mean")
"""Fields of a summary without presence; every other one may be missing."""
_STATISTICS_FIELDS = ("f0", "loudness", "level_dbfs", "speech_rate_hz")


def statistics_to(statistics: StreamStatistics) -> features_pb2.StreamStatistics:
    """As a part of a message."""
    moments = {name: getattr(statistics, name) for name in _STATISTICS_FIELDS}
    return features_pb2.StreamStatistics(
        segments=statistics.segments,
        **{
            name: features_pb2.Moments(weight_s=known.weight_s, mean=known.mean[0], squares=known.squares[0])
            for name, known in moments.items()
        },
    )


def statistics_from(message: features_pb2.StreamStatistics) -> StreamStatistics:
    """What `statistics_to` made of it."""
    moments = {name: getattr(message, name) for name in _STATISTICS_FIELDS}
    return StreamStatistics(
        message.segments,
        **{name: Baseline(known.weight_s, (known.mean,), (known.squares,)) for name, known in moments.items()},
    )


def _features_to(record: FeatureWindow) -> features_pb2.FeatureWindow:
    summary = {name: getattr(record.summary, name) for name in _SUMMARY_FIELDS}
    return features_pb2.FeatureWindow(
        call_id=record.stream.call_id,
        leg=record.stream.leg,
        segment=record.segment,
        kind=features_pb2.FeatureWindow.Kind.ValueType(record.kind),
        start=record.start,
        duration=record.duration,
        coverage=record.coverage,
        lookahead=record.lookahead,
        feature_set=record.feature_set,
        lld_first=record.lld_first,
        lld=record.lld.ravel().tolist(),
        functionals=record.functionals.tolist(),
        summary=features_pb2.VoiceSummary(**{name: value for name, value in summary.items() if value is not None}),
        statistics=None if record.statistics is None else statistics_to(record.statistics),
        missing_because=record.missing_because,
    )


def _features_from(message: features_pb2.FeatureWindow) -> FeatureWindow:
    if len(message.lld) % LLD_COLUMNS:
        raise Undecodable(f"{len(message.lld)} descriptors are not rows of {LLD_COLUMNS}")
    summary = message.summary
    optional = {
        name: getattr(summary, name) if summary.HasField(name) else None  # type: ignore[arg-type]  # the stub lists literals
        for name in _SUMMARY_FIELDS
        if name not in _ALWAYS_KNOWN
    }
    return FeatureWindow(
        stream=StreamId(message.call_id, message.leg),
        segment=_media_time(message.segment),
        kind=WindowKind(message.kind),
        start=_media_time(message.start),
        duration=_media_time(message.duration),
        coverage=message.coverage,
        lookahead=message.lookahead,
        feature_set=message.feature_set,
        lld_first=message.lld_first,
        lld=np.array(message.lld, np.float32).reshape(-1, LLD_COLUMNS),
        functionals=np.array(message.functionals, np.float32),
        summary=VoiceSummary(voiced_share=summary.voiced_share, loudness_mean=summary.loudness_mean, **optional),
        statistics=statistics_from(message.statistics) if message.HasField("statistics") else None,
        missing_because=message.missing_because,
    )


def _insight_to(record: Insight) -> insight_pb2.Insight:
    return insight_pb2.Insight(
        call_id=record.stream.call_id,
        leg=record.stream.leg,
        segment=record.segment,
        model=record.model,
        model_version=record.model_version,
        start=record.start,
        duration=record.duration,
        is_final=record.is_final,
        lookahead=record.lookahead,
        caution=record.caution,
        outputs=[
            insight_pb2.Output(
                name=output.name, value=output.value, unit=output.unit, unknown_because=output.unknown_because
            )
            for output in record.outputs
        ],
    )


def _insights_end_to(record: InsightsEnd) -> insight_pb2.Insight:
    return insight_pb2.Insight(call_id=record.stream.call_id, leg=record.stream.leg, start=record.at, stream_ended=True)


def _insight_from(message: insight_pb2.Insight) -> Insight | InsightsEnd:
    if message.stream_ended:
        return InsightsEnd(StreamId(message.call_id, message.leg), message.start)
    return Insight(
        StreamId(message.call_id, message.leg),
        message.segment,
        message.model,
        message.model_version,
        message.start,
        message.duration,
        message.is_final,
        message.lookahead,
        tuple(
            Output(o.name, o.value if o.HasField("value") else None, o.unit, o.unknown_because) for o in message.outputs
        ),
        message.caution,
    )


_TOPIC_OF: Mapping[type, Topic] = {
    AudioFrame: AUDIO_FRAMES,
    SpeechFrame: VOICE_SPEECH,
    VoiceActivity: VOICE_ACTIVITY,
    FeatureWindow: VOICE_FEATURES,
    Insight: VOICE_INSIGHTS,
    InsightsEnd: VOICE_INSIGHTS,
}
_TO_MESSAGE: Mapping[type, Callable[[Any], Any]] = {
    AudioFrame: _audio_frame_to,
    SpeechFrame: _speech_frame_to,
    VoiceActivity: _activity_to,
    FeatureWindow: _features_to,
    Insight: _insight_to,
    InsightsEnd: _insights_end_to,
}
_FROM_MESSAGE: Mapping[str, tuple[type[Message], Callable[[Any], Record]]] = {
    AUDIO_FRAMES.name: (audio_pb2.AudioFrame, _audio_frame_from),
    VOICE_SPEECH.name: (audio_pb2.SpeechFrame, _speech_frame_from),
    VOICE_ACTIVITY.name: (activity_pb2.VoiceActivity, _activity_from),
    VOICE_FEATURES.name: (features_pb2.FeatureWindow, _features_from),
    VOICE_INSIGHTS.name: (insight_pb2.Insight, _insight_from),
}
