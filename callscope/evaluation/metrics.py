"""Every score by name: what it says in plain words, its unit, and which way is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One score.

    Attributes:
        title: what it is called in a table.
        words: what it says, for someone who does not know the term.
        unit: "share" is shown as a percentage, "ms" in milliseconds, "count" as a whole number.
        better: 1 if higher is better, -1 if lower is, 0 if nearer to zero is, None if it only informs.
    """

    title: str
    words: str
    unit: Literal["share", "ms", "number", "count"]
    better: Literal[1, 0, -1] | None

    def shown(self, value: float, *, difference: bool = False) -> str:
        """The value as a person reads it; "–" where there is none.

        Args:
            value: the score.
            difference: whether it is one between two scores: then with its sign.
        """
        if not math.isfinite(value):
            return "–"
        sign = "+" if difference or (self.unit == "ms" and self.better == 0) else ""
        if self.unit == "share":
            text = f"{value * 100:{sign}.1f} {'pp' if difference else '%'}"
        elif self.unit == "ms":
            text = f"{value:{sign}.0f} ms"
        else:
            text = f"{value:{sign}.{0 if self.unit == 'count' else 3}f}"
        return text.replace("-", "−")

    def goodness(self, value: float) -> float:
        """Higher is better, of values of this metric; NaN where neither is."""
        if self.better is None:
            return math.nan
        return -abs(value) if self.better == 0 else self.better * value


_SHARE: Literal["share"] = "share"
_MS: Literal["ms"] = "ms"
_NUMBER: Literal["number"] = "number"

METRICS = {
    "vad.auc": Metric(
        "ROC-AUC", "How often a moment of speech gets a higher probability than a moment without.", _NUMBER, 1
    ),
    "vad.f1": Metric("F1", "Precision and recall in one number (harmonic mean).", _NUMBER, 1),
    "vad.precision": Metric("Precision", "Of the time taken for speech, how much is speech.", _SHARE, 1),
    "vad.recall": Metric("Recall", "Of the time with speech, how much was found.", _SHARE, 1),
    "vad.miss_rate": Metric("Missed", "Of the time with speech, how much was missed.", _SHARE, -1),
    "vad.false_alarm_rate": Metric("False alarms", "Of the time without speech, what was taken for it.", _SHARE, -1),
    "vad.f1_at_threshold": Metric(
        "F1 at threshold", "F1 of the detector alone: probability at or above the threshold.", _NUMBER, 1
    ),
    "vad.edges_found": Metric(
        "Edges found", "Labelled starts and ends of speech with a decided one within half a second.", _SHARE, 1
    ),
    "vad.onset_median_ms": Metric("Start, median error", "Decided minus labelled start of speech.", _MS, 0),
    "vad.onset_p90_ms": Metric("Start, 90 % within", "Nine of ten starts err by no more.", _MS, -1),
    "vad.offset_median_ms": Metric("End, median error", "Decided minus labelled end of speech.", _MS, 0),
    "vad.offset_p90_ms": Metric("End, 90 % within", "Nine of ten ends err by no more.", _MS, -1),
    "vad.told_median_ms": Metric(
        "Start told after, median", "From the labelled start to the audio with which the system tells of it.", _MS, -1
    ),
    "vad.told_p90_ms": Metric("Start told, 90 % within", "Nine of ten starts are told by then.", _MS, -1),
    "segments.f1": Metric("F1", "Segments that match a labelled utterance, precision and recall in one.", _NUMBER, 1),
    "segments.precision": Metric("Precision", "Of the segments, how many match a labelled utterance.", _SHARE, 1),
    "segments.recall": Metric("Recall", "Of the labelled utterances, how many have a matching segment.", _SHARE, 1),
    "segments.overlap": Metric("Overlap", "Matched segment and utterance: time in common of time covered.", _SHARE, 1),
    "segments.per_label": Metric("Segments per utterance", "Above 1: cut too often; below: too seldom.", _NUMBER, None),
    "turns.turns_ratio": Metric("Turns found per labelled one", "1 is as labelled.", _NUMBER, None),
    "turns.turns_error": Metric("Turns, error a call", "How far the number of turns is off, on average.", _NUMBER, -1),
    "turns.talk_share_error": Metric("Talk share, error", "How far each leg's share of talking is off.", _SHARE, -1),
    "turns.talk_over_labelled": Metric("Talk-over by labels", "Time in which two speak at once.", _SHARE, None),
    "turns.talk_over_found": Metric("Talk-over found", "The same, as found.", _SHARE, None),
    "turns.response_gap_labelled_ms": Metric("Response gap by labels", "Median pause before the other.", _MS, None),
    "turns.response_gap_found_ms": Metric("Response gap found", "The same, as found.", _MS, None),
    "turns.response_gap_error_ms": Metric("Response gap, error", "How far the two medians lie apart.", _MS, -1),
}

_OF_OUTPUTS = {
    "auc": Metric("ROC-AUC", "How often the class that should have the higher output has it.", _NUMBER, 1),
    "ccc": Metric("CCC", "Agreement with the labelled value; 1 is the very same.", _NUMBER, 1),
    "mean_error": Metric("Mean error", "How far output and label lie apart.", _NUMBER, -1),
    "uar": Metric("UAR", "Share recognised, every class counting the same.", _SHARE, 1),
    "accuracy": Metric("Accuracy", "Share recognised, every label counting the same.", _SHARE, 1),
    "known": Metric("Answered", "Of the labels, for how many the model said anything.", _SHARE, 1),
    "labels": Metric("Labels", "How many were scored.", "count", None),
}


def metric(name: str) -> Metric:
    """What a score's name stands for: `vad.f1`, `vad.f1@office` (under a condition), `output.arousal.auc`."""
    bare = name.partition("@")[0]
    return METRICS[bare] if bare in METRICS else _OF_OUTPUTS[bare.rpartition(".")[2]]
