"""What a run says of a stream, as far as it can be scored: the common form of runs in process and of exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from callscope.evaluation.spans import GRID, Bools, Span
from callscope.streams import StreamId
from processors.records import RATE_HZ


@dataclass(frozen=True, slots=True)
class Said:
    """What one model said of one utterance.

    Attributes:
        model: its name.
        version: its version.
        span: the utterance, seconds.
        outputs: by name; None where unknown.
    """

    model: str
    version: str
    span: Span
    outputs: Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a run, or one detector, says of one stream.

    Attributes:
        probability: of speech in each 10 ms frame, shape (n,).
        spoken: whether each frame was decided to be speech, shape (n,).
        spans: the decisions as spans, in order.
        told_s: by when each of the spans' starts was told, seconds of media time; empty where that is not known.
        heard: whether the frame came at all, shape (n,); what was lost is not scored.
        segments: the segments that speech was cut into.
        said: what models said of whole utterances.
        detector: which detector decided.
    """

    probability: NDArray[np.float64]
    spoken: Bools
    spans: tuple[Span, ...]
    told_s: tuple[float, ...] = ()
    heard: Bools = field(default_factory=lambda: np.zeros(0, bool))
    segments: tuple[Span, ...] = ()
    said: tuple[Said, ...] = ()
    detector: str = ""

    @property
    def length_s(self) -> float:
        """How much audio it is about, seconds."""
        return len(self.spoken) * GRID / RATE_HZ


Run = Mapping[StreamId, Judgement]
"""What was said of every stream."""
