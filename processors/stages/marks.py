"""What must be known of a stream, beside its audio, to go on with the same results: a few numbers, each declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from callscope.streams import StreamId
from processors.records import StreamStatistics
from processors.stages.baseline import Baseline
from processors.stages.span import Span


@dataclass(frozen=True, slots=True)
class DetectMark:
    """Where `Detect` was, at the end of a hop. All times are media time, samples.

    Attributes:
        detector: its name.
        hop: samples of its hop.
        decided_to: the end of that hop; what follows is to be decided.
        detector_from: what the detector remembers comes of the audio from here on.
        primed: and of the end of the hop before it.
        floor_dbfs: the energy detector's noise floor; None: another detector's.
        segment: the open segment, None: none.
        held_from: audio from here on has been given to no segment, or was not sent.
        speech: open speech.
        pause: what was heard since its last voiced hop.
        onset: the run of voiced hops that may become speech.
        level: of which nothing was told yet.
        speech_end: end of the last voiced hop of the last speech.
        silence: samples of silent hops since then, or since a doubtful one.
    """

    detector: str
    hop: int
    decided_to: int
    detector_from: int
    primed: bool
    floor_dbfs: float | None
    segment: int | None
    held_from: int
    speech: Span | None
    pause: Span | None
    onset: Span | None
    level: Span | None
    speech_end: int
    silence: int

    @property
    def since(self) -> int:
        """The beginning of the audio that belongs to the open segment or may belong to the next."""
        return self.held_from if self.segment is None else self.segment

    @property
    def audio_from(self) -> int:
        """The beginning of the audio that is needed."""
        return min(self.since, self.detector_from - self.hop * self.primed)

    def fits(self, detector: str, hop: int) -> bool:
        """Whether it is of such a detector, and is sound."""
        times = (self.since, self.held_from, self.detector_from)
        return (
            (self.detector, self.hop) == (detector, hop)
            and all(0 <= at <= self.decided_to and (self.decided_to - at) % hop == 0 for at in times)
            and self.since <= self.held_from
        )


@dataclass(frozen=True, slots=True)
class ExtractMark:
    """What `Extract` knows of finished segments.

    Attributes:
        done: segments up to this id are finished; -1: none.
        statistics: of them.
    """

    done: int = -1
    statistics: StreamStatistics = field(default_factory=StreamStatistics)


@dataclass(frozen=True, slots=True)
class InferMark:
    """What `Infer` knows of a stream.

    Attributes:
        done: segments up to this id are finished; -1: none.
        baselines: by name and version of the model.
    """

    done: int = -1
    baselines: Mapping[tuple[str, str], Baseline] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamMark:
    """What a worker that takes a stream over has to know of it.

    Attributes:
        stream: the leg.
        offset: the stream's records before this one need not be read again.
        read_to: offset behind the newest one that this mark knows of.
        arrived_ns: when the newest audio arrived, nanoseconds since the epoch.
        ended: the stream is over.
        start: of `audio.frames`: media time of the first record that need be read again, samples.
        seq: and its number.
        detect: of that stage, where the worker runs it.
        extract: likewise.
        infer: likewise.
    """

    stream: StreamId
    offset: int
    read_to: int
    arrived_ns: int
    ended: bool = False
    start: int = 0
    seq: int = 0
    detect: DetectMark | None = None
    extract: ExtractMark | None = None
    infer: InferMark | None = None
