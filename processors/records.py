"""What the stages exchange: frozen dataclasses over numpy arrays, the in-memory twins of `schemas/v1`.

Media time and lengths are integers: samples at 16 kHz from the start of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from callscope.streams import StreamId
from processors.stages.baseline import Baseline

RATE_HZ = 16_000
"""Rate of all audio behind the gateway, Hz."""
FRAME_SAMPLES = 320
"""The canonical frame: 20 ms."""

Pcm: TypeAlias = NDArray[np.int16]
"""Mono signed 16-bit samples at `RATE_HZ`, shape (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioFrame:
    """Audio as it came in: a whole number of 20 ms frames, or none on the record that ends the stream.

    Attributes:
        stream: whose audio it is.
        seq: counts the stream's records from 0.
        start: media time of the first sample.
        pcm: the samples.
        gap_before: samples missing before this record; `start` counts them.
        last: the stream ends with this record.
    """

    stream: StreamId
    seq: int
    start: int
    pcm: Pcm
    gap_before: int = 0
    last: bool = False


class ActivityKind(IntEnum):
    """What a `VoiceActivity` tells; the numbers are those of the schema."""

    LEVEL = 1
    SPEECH_START = 2
    SPEECH_END = 3


@dataclass(frozen=True, slots=True)
class VoiceActivity:
    """Whether a leg speaks, and how loud.

    Attributes:
        stream: the leg.
        kind: a periodic level, or an edge of speech.
        start: media time the record is about.
        duration: its length, samples; of the whole speech for SPEECH_END, 0 for SPEECH_START.
        speaking: the detector's decision at the end of the span.
        probability: speech probability over the span, 0 to 1.
        level_dbfs: root mean square over the span, dB re full scale, at least -100.
        segment: id of the open segment, if any.
        detector: which detector decided.
    """

    stream: StreamId
    kind: ActivityKind
    start: int
    duration: int
    speaking: bool
    probability: float
    level_dbfs: float
    segment: int | None
    detector: str


@dataclass(frozen=True, slots=True, eq=False)
class SpeechFrame:
    """Audio inside a speech segment.

    Attributes:
        stream: the leg.
        segment: the segment's id: media time of its first sample.
        start: media time of `pcm[0]`; contiguous within a segment.
        pcm: the samples; may be empty on the last record.
        last: the segment ends with this record.
        stream_ended: the stream itself has ended; such a record holds no audio and belongs to no segment.
        lost: these samples never came; `pcm` is silence in their place.
    """

    stream: StreamId
    segment: int
    start: int
    pcm: Pcm
    last: bool = False
    stream_ended: bool = False
    lost: bool = False


class WindowKind(IntEnum):
    """What a `FeatureWindow` spans; the numbers are those of the schema."""

    WINDOW = 1
    UTTERANCE = 2
    STREAM_END = 3


@dataclass(frozen=True, slots=True)
class VoiceSummary:
    """Means over a window's low-level descriptors; None where no frame was voiced.

    Attributes:
        voiced_share: share of frames with a pitch, 0 to 1.
        f0_mean: pitch, semitones above 27.5 Hz.
        f0_stddev: its (population) standard deviation, semitones.
        loudness_mean: openSMILE's auditory-spectrum loudness, no unit.
        alpha_ratio_mean: energy of 1-5 kHz over that of 50-1000 Hz, dB, voiced frames.
        hammarberg_mean: peak of 0-2 kHz over peak of 2-5 kHz, dB, voiced frames.
        f0_min: lowest pitch, semitones above 27.5 Hz.
        f0_max: highest pitch, semitones above 27.5 Hz.
        level_dbfs: root mean square of the window's audio, dB re full scale, at least -100.
        speech_rate_hz: syllable-like peaks of loudness per second; None where the window is too short to tell.
        jitter_mean: cycle-to-cycle change of the period's length, relative, where there is one.
        shimmer_db_mean: cycle-to-cycle change of the period's amplitude, dB, where there is one.
        hnr_db_mean: energy of the harmonics over that of the noise, dB, where there is one.
    """

    voiced_share: float
    f0_mean: float | None
    f0_stddev: float | None
    loudness_mean: float
    alpha_ratio_mean: float | None
    hammarberg_mean: float | None
    f0_min: float | None = None
    f0_max: float | None = None
    level_dbfs: float | None = None
    speech_rate_hz: float | None = None
    jitter_mean: float | None = None
    shimmer_db_mean: float | None = None
    hnr_db_mean: float | None = None


_NOTHING = Baseline.empty(1)


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """What was usual in a stream's finished segments; each `Baseline` holds one feature, weighted in seconds.

    Attributes:
        segments: how many it is made of.
        f0: pitch of voiced rows, semitones above 27.5 Hz.
        loudness: openSMILE's loudness of all rows.
        level_dbfs: the segments' levels.
        speech_rate_hz: the segments' speech rates.
    """

    segments: int = 0
    f0: Baseline = _NOTHING
    loudness: Baseline = _NOTHING
    level_dbfs: Baseline = _NOTHING
    speech_rate_hz: Baseline = _NOTHING


NO_FLOATS: NDArray[np.float32] = np.zeros(0, np.float32)
NO_FLOATS.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class FeatureWindow:
    """Features of the last seconds of a segment, or of all of it.

    Attributes:
        stream: the leg.
        segment: the segment's id.
        kind: sliding window or whole utterance.
        start: media time of the window's first sample.
        duration: its length, samples.
        coverage: share of it that was heard, 0 to 1.
        lookahead: how far behind the audio the newest descriptor lies, samples.
        feature_set: names the columns, "eGeMAPSv02".
        lld_first: frame number, within the segment, of the first row of `lld`.
        lld: descriptors new since the segment's previous record, float32, shape (n, 25), one row every 10 ms.
        functionals: float32, shape (88,), or (0,) where they cannot be computed.
        summary: the running picture.
        statistics: of an utterance: the stream's finished segments so far, this one included.
        missing_because: of an utterance that has no features: why; "shed": they were left out under load.
    """

    stream: StreamId
    segment: int
    kind: WindowKind
    start: int
    duration: int
    coverage: float
    lookahead: int
    feature_set: str
    lld_first: int
    lld: NDArray[np.float32]
    functionals: NDArray[np.float32]
    summary: VoiceSummary
    statistics: StreamStatistics | None = None
    missing_because: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model: a value, or why there is none."""

    name: str
    value: float | None
    unit: str = ""
    unknown_because: str = ""


@dataclass(frozen=True, slots=True)
class Insight:
    """What one model says of one window.

    Attributes:
        stream: the leg.
        segment: the segment's id.
        model: the model's name.
        model_version: its version.
        start: media time of the window, samples.
        duration: its length, samples.
        is_final: True for the judgement of the whole utterance.
        lookahead: as the window's.
        outputs: one or more.
        caution: what must be said beside the outputs, such as "screening, not diagnosis"; may be empty.
    """

    stream: StreamId
    segment: int
    model: str
    model_version: str
    start: int
    duration: int
    is_final: bool
    lookahead: int
    outputs: tuple[Output, ...]
    caution: str = ""


@dataclass(frozen=True, slots=True)
class InsightsEnd:
    """A stream has ended, and every model has said what it had to say of it.

    Attributes:
        stream: the leg.
        at: media time of the end, samples.
    """

    stream: StreamId
    at: int


@dataclass(frozen=True, slots=True)
class Consent:
    """A speaker allowed or refused analysis, from a moment of media time on.

    Attributes:
        call_id: the call.
        leg: the leg; empty for all legs of the call.
        at: media time from which it holds, samples.
        allowed: False: refused.
        purposes: policies of models it is about, such as "emotion"; empty for all analysis by models.
        written_ms: timestamp of its record in Kafka, milliseconds since the epoch.
    """

    call_id: str
    leg: str
    at: int
    allowed: bool
    purposes: tuple[str, ...] = ()
    written_ms: int = 0


Record: TypeAlias = AudioFrame | VoiceActivity | SpeechFrame | FeatureWindow | Insight | InsightsEnd


@dataclass(frozen=True, slots=True)
class Ledger:
    """When the audio a record depends on passed each station, nanoseconds since the epoch; 0: not yet."""

    arrived_ns: int = 0
    published_ns: int = 0
    detected_ns: int = 0
    extracted_ns: int = 0
    inferred_ns: int = 0


@dataclass(frozen=True, slots=True)
class Envelope:
    """A record with the ledger of the audio that brought it about. Stages see the record only.

    Attributes:
        record: the record.
        ledger: its ledger.
        offset: where in its partition it was read; -1: it was not read from Kafka.
    """

    record: Record
    ledger: Ledger = field(default_factory=Ledger)
    offset: int = -1
