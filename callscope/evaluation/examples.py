"""The stretches to listen to: where two sides disagree most, or one side and the labels, cut out as WAV files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from callscope.evaluation.comparison import Flip, flips
from callscope.evaluation.evaluate import Evaluation
from callscope.evaluation.judgement import Judgement, Run
from callscope.evaluation.labels import Labels
from callscope.evaluation.recordings import Call, audio_of, end_of
from callscope.evaluation.sides import Calls
from callscope.evaluation.spans import Span, spoken_in
from callscope.exchange.wav import safe_name
from callscope.streams import StreamId
from processors.records import RATE_HZ

FOLDER = "eval-examples"
"""Where they lie, beside the report."""
CONTEXT_S = 1.0
"""Audio before and after a stretch that an example has too."""
LONGEST_S = 8.0
"""Of a longer stretch the beginning is enough."""
_A_CALL = 3
"""More examples of one call tell little more."""


@dataclass(frozen=True, slots=True)
class Example:
    """A stretch with its audio.

    Attributes:
        flip: what it is an example of.
        clip: what the file holds of its leg, seconds.
        file: its name within the report's folder.
    """

    flip: Flip
    clip: Span
    file: str


def worth_hearing(evaluation: Evaluation, most: int) -> list[Flip]:
    """The longest stretches of disagreement: of the two sides, or of the one and the labels; at most three a call."""
    found = evaluation.flips
    if len(evaluation.scored) == 1:
        run = evaluation.scored[0].run
        found = flips(_as_labelled(run, evaluation.labels), run, evaluation.labels)
    chosen: list[Flip] = []
    of_call: dict[str, int] = defaultdict(int)
    for flip in found:
        if len(chosen) < most and of_call[flip.stream.call_id] < _A_CALL:
            chosen.append(flip)
            of_call[flip.stream.call_id] += 1
    return chosen


def _as_labelled(run: Run, labels: Mapping[str, Labels]) -> Run:
    """The labels as if they were a run."""
    legs: dict[str, list[str]] = defaultdict(list)
    for stream in run:
        legs[stream.call_id].append(stream.leg)
    out: dict[StreamId, Judgement] = {}
    for stream, judged in run.items():
        known = labels[stream.call_id].legs(legs[stream.call_id])
        if known is not None:
            spoken = spoken_in(known[stream.leg], len(judged.spoken))
            out[stream] = Judgement(judged.probability, spoken, known[stream.leg])
    return out


def cut(chosen: Sequence[Flip], calls: Calls, folder: Path) -> list[Example]:
    """Write the examples' audio into a folder beside the report; those of an earlier report go.

    Args:
        chosen: the stretches.
        calls: where their audio is.
        folder: of the report.
    """
    for old in (folder / FOLDER).glob("[0-9][0-9]-*.wav"):
        old.unlink()
    out: dict[Flip, Example] = {}
    call: Call | None = None
    for number, flip in sorted(enumerate(chosen, 1), key=lambda numbered: numbered[1].stream.call_id):
        if call is None or call.name != flip.stream.call_id:
            call = calls.one(flip.stream.call_id)
        records = call.legs.get(flip.stream.leg, ())
        start = max(0.0, flip.span[0] - CONTEXT_S)
        end = min(end_of(records) / RATE_HZ, min(flip.span[1], flip.span[0] + LONGEST_S) + CONTEXT_S)
        pcm = audio_of(records, round(start * RATE_HZ), round(end * RATE_HZ))
        if not len(pcm):
            continue
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        name = f"{FOLDER}/{number:02}-{safe_name(flip.stream.call_id)}-{safe_name(flip.stream.leg)}.wav"
        soundfile.write(folder / name, pcm, RATE_HZ, subtype="PCM_16")
        out[flip] = Example(flip, (start, end), name)
    return [out[flip] for flip in chosen if flip in out]
