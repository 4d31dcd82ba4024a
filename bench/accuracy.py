"""How well each detector finds speech, on any folder of labelled recordings.

Run `make bench-accuracy DATA=folder`. Labels lie beside each WAV under its name: `.rttm` (SPEAKER lines), `.csv`
(start, end in seconds), Audacity's `.txt` and `.lab` (start, end, anything), or the `.scv` of the TEN-VAD test set
(name, then start, end, 0 or 1, over and over). Recordings without labels are left out.

Frames of 10 ms; a frame is speech if its middle is labelled so, and frames that were lost are not counted.

- ROC-AUC: of the detector's probability of each frame. For the pipeline that is its detector's output as it runs
  there: renewed, over gaps, with the last value held where lost audio left nothing to judge. Detectors that only
  decide have a curve of one point.
- F1: of the decision for each frame. For the pipeline the decisions are its speech from SPEECH_START to SPEECH_END;
  for a detector alone, probability at least 0.5.
- Onset, offset: decided minus labelled time of matched edges, median of the error / 90th percentile of its size, ms;
  an edge matches the nearest of its kind within 500 ms, one to one. Labelled silences shorter than 200 ms count as
  speech for edges, and what is shorter on both sides is not an edge.
- Delay: media time from a matched labelled onset to the end of the audio that made the pipeline say SPEECH_START.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from callscope.config import Detect as DetectConfig
from callscope.streams import StreamId
from ingest.audio import g711
from processors.records import FRAME_SAMPLES, RATE_HZ, ActivityKind, AudioFrame, Pcm, VoiceActivity
from processors.stages.detect import Detect
from processors.stages.detectors import Detector, EnergyDetector, SileroDetector, WebRtcDetector
from processors.stages.detectors.silero import FILES, FOLDER, SileroModel

GRID = 160
"""Samples of a frame that is counted: 10 ms."""
MATCH_WITHIN_S = 0.5
BRIDGED_S = 0.2
NOT_SPEECH = ("0", "nonspeech", "non-speech", "silence", "noise")
"""Third cells of label lines that are not about speech."""

Span = tuple[float, float]
_Bools = NDArray[np.bool_]


# ── recordings ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Recording:
    """A labelled recording, 16 kHz mono."""

    name: str
    pcm: Pcm
    spans: tuple[Span, ...]


def read_spans(path: Path) -> tuple[Span, ...]:
    """Where speech is, seconds, in order and without overlap."""
    if path.suffix == ".scv":
        cells = path.read_text("utf-8").split(",")[1:]
        stretches = zip(cells[::3], cells[1::3], cells[2::3], strict=True)
        return merge([(float(start), float(end)) for start, end, label in stretches if int(label)], 0.0)
    spans = []
    for line in path.read_text("utf-8").splitlines():
        cells = re.split(r"[,;\s]+", line.strip())
        if path.suffix == ".rttm":
            if cells[0] == "SPEAKER":
                spans.append((float(cells[3]), float(cells[3]) + float(cells[4])))
        elif len(cells) >= 2 and _is_number(cells[0]) and _is_number(cells[1]):  # else a heading, or an empty line
            if len(cells) < 3 or cells[2].lower() not in NOT_SPEECH:
                spans.append((float(cells[0]), float(cells[1])))
    return merge(spans, 0.0)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\d+(\.\d*)?(e-?\d+)?", cell.lower()) is not None


def merge(spans: Iterable[Span], bridged_s: float) -> tuple[Span, ...]:
    """The spans in order, without overlap and without silences shorter than that between them."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and (start <= merged[-1][1] or start - merged[-1][1] < bridged_s):
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return tuple(merged)


def read_folder(folder: Path) -> Iterator[Recording]:
    """Every WAV below the folder that has labels."""
    for path in sorted(folder.rglob("*.wav")):
        labels = [path.with_suffix(suffix) for suffix in (".rttm", ".csv", ".scv", ".txt", ".lab")]
        found = [label for label in labels if label.exists()]
        if not found:
            continue
        audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        mono = soxr.resample(audio.mean(axis=1), rate_hz, RATE_HZ)
        yield Recording(path.stem, to_pcm(mono), read_spans(found[0]))


def to_pcm(audio: NDArray[np.float32]) -> Pcm:
    """Rounded and clipped; whole 20 ms frames."""
    whole = len(audio) // FRAME_SAMPLES * FRAME_SAMPLES
    return np.asarray(np.clip(np.round(audio[:whole] * 32_768), -32_768, 32_767), np.int16)


def narrow(pcm: Pcm, *, companded: bool) -> Pcm:
    """Through 8 kHz, and mu-law if asked, and back."""
    low = soxr.resample(pcm.astype(np.float64), RATE_HZ, 8_000)
    if companded:
        values = np.unique(g711.decode_mu_law(np.arange(256, dtype=np.uint8))).astype(np.float64)
        low = values[np.searchsorted((values[1:] + values[:-1]) / 2, low)]  # the nearest
    wide = soxr.resample(np.round(low), 8_000, RATE_HZ)[: len(pcm)]
    return np.asarray(np.round(np.pad(wide, (0, len(pcm) - len(wide)))).clip(-32_768, 32_767), np.int16)


def losses(recording: Recording, share: float) -> _Bools:
    """Which 20 ms frames are lost; the same in every run."""
    seed = int.from_bytes(hashlib.sha256(recording.name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).random(len(recording.pcm) // FRAME_SAMPLES) < share


# ── detectors ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Judgement:
    """What one detector says of one recording.

    Attributes:
        probability: of each 10 ms frame.
        spoken: the decision for each frame.
        spans: the decisions as spans, seconds.
        told_s: when each of the spans' starts was told; empty for a detector alone.
    """

    probability: NDArray[np.float64]
    spoken: _Bools
    spans: tuple[Span, ...]
    told_s: tuple[float, ...] = ()


Judge = Callable[[Pcm, _Bools], Judgement]


def alone(make: Callable[[], Detector]) -> Judge:
    """A detector by itself: speech where the probability is at least 0.5; lost audio is silence to it."""

    def judge(pcm: Pcm, lost: _Bools) -> Judgement:
        detector = make()
        heard = pcm * ~np.repeat(lost, FRAME_SAMPLES)
        found = detector.probabilities(heard[: len(heard) // detector.hop * detector.hop])
        probability = on_grid([(i * detector.hop, detector.hop, p) for i, p in enumerate(found)], len(pcm) // GRID)
        spoken = probability >= 0.5
        return Judgement(probability, spoken, spans_of(spoken))

    return judge


def pipeline(config: DetectConfig) -> Judge:
    """The stage `detect`, fed 20 ms frames; lost ones are holes."""

    def judge(pcm: Pcm, lost: _Bools) -> Judgement:
        stream = StreamId("bench", "customer")
        stage = Detect(stream, config)
        hops: list[tuple[int, int, float]] = []
        told: dict[float, float] = {}
        ends: dict[float, float] = {}
        gap = 0
        for seq, missing in enumerate(lost):
            if missing:
                gap += FRAME_SAMPLES
                continue
            at = seq * FRAME_SAMPLES
            frame = AudioFrame(stream, seq, at, pcm[at : at + FRAME_SAMPLES], gap_before=gap)
            gap = 0
            fresh = stage.admit(frame)
            start = stage.judged_to or 0
            found = stage.detector.probabilities(fresh)
            hops += [(start + i * stage.detector.hop, stage.detector.hop, p) for i, p in enumerate(found)]
            for result in stage.decide(found, fresh):
                if isinstance(result, VoiceActivity) and result.kind is ActivityKind.SPEECH_START:
                    told[result.start / RATE_HZ] = (at + FRAME_SAMPLES) / RATE_HZ
                elif isinstance(result, VoiceActivity) and result.kind is ActivityKind.SPEECH_END:
                    ends[result.start / RATE_HZ] = (result.start + result.duration) / RATE_HZ
        for result in stage.flush():
            if isinstance(result, VoiceActivity) and result.kind is ActivityKind.SPEECH_END:
                ends[result.start / RATE_HZ] = (result.start + result.duration) / RATE_HZ
        spans = tuple((start, ends[start]) for start in told)
        frames = len(pcm) // GRID
        return Judgement(on_grid(hops, frames), spoken_in(spans, frames), spans, tuple(told.values()))

    return judge


def on_grid(hops: Sequence[tuple[int, int, float]], frames: int) -> NDArray[np.float64]:
    """The probability of each frame: that of the hop in which its middle lies, or else of the last hop before."""
    out = np.full(frames, np.nan)
    for start, length, probability in hops:
        out[-((GRID // 2 - start) // GRID) : -((GRID // 2 - start - length) // GRID)] = probability
    last = np.maximum.accumulate(np.where(np.isnan(out), 0, np.arange(frames)))
    return np.asarray(np.nan_to_num(out[last]))


def spoken_in(spans: Sequence[Span], frames: int) -> _Bools:
    """Whether the middle of each frame lies in one of the spans."""
    middle = (np.arange(frames) + 0.5) * GRID / RATE_HZ
    out = np.zeros(frames, bool)
    for start, end in spans:
        out |= (middle >= start) & (middle < end)
    return out


def spans_of(spoken: _Bools) -> tuple[Span, ...]:
    """Runs of speech, seconds."""
    edges = np.flatnonzero(np.diff(spoken.astype(np.int8), prepend=0, append=0)) * GRID / RATE_HZ
    return tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


# ── scores ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def auc(score: NDArray[np.float64], speech: _Bools) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney 1947), ties counting half; NaN without both kinds."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    yes, no = int(speech.sum()), int((~speech).sum())
    return float((rank[speech].sum() - yes * (yes + 1) / 2) / (yes * no)) if yes and no else float("nan")


def f1(spoken: _Bools, speech: _Bools) -> float:
    """Harmonic mean of precision and recall."""
    right = int((spoken & speech).sum())
    return 2 * right / max(1, int(spoken.sum()) + int(speech.sum()))


def matches(labelled: Sequence[float], decided: Sequence[float]) -> list[tuple[int, int]]:
    """Pairs of a label and a decision, nearest first, one to one."""
    pairs = [
        (abs(a - b), i, k)
        for i, a in enumerate(labelled)
        for k, b in enumerate(decided)
        if abs(a - b) <= MATCH_WITHIN_S
    ]
    out: list[tuple[int, int]] = []
    for _, i, k in sorted(pairs):
        if all(i != j and k != m for j, m in out):
            out.append((i, k))
    return out


@dataclass
class Score:
    """Of one detector under one condition, over all recordings."""

    probability: list[NDArray[np.float64]] = field(default_factory=list)
    spoken: list[_Bools] = field(default_factory=list)
    speech: list[_Bools] = field(default_factory=list)
    onset_s: list[float] = field(default_factory=list)
    offset_s: list[float] = field(default_factory=list)
    delay_s: list[float] = field(default_factory=list)
    edges: int = 0

    def add(self, recording: Recording, lost: _Bools, judged: Judgement) -> None:
        """Count a recording."""
        frames = len(recording.pcm) // GRID
        heard = ~np.repeat(lost, FRAME_SAMPLES // GRID)
        self.probability.append(judged.probability[heard])
        self.spoken.append(judged.spoken[heard])
        self.speech.append(spoken_in(recording.spans, frames)[heard])
        length = len(recording.pcm) / RATE_HZ
        labels = merge(recording.spans, BRIDGED_S)
        decided = judged.spans if judged.told_s else merge(judged.spans, BRIDGED_S)
        onsets, offsets = [a for a, _ in labels if a > 0.05], [b for _, b in labels if b < length - 0.05]
        self.edges += len(onsets) + len(offsets)
        for i, k in matches(onsets, [a for a, _ in decided]):
            self.onset_s.append(decided[k][0] - onsets[i])
            if judged.told_s:
                self.delay_s.append(judged.told_s[k] - onsets[i])
        self.offset_s += [decided[k][1] - offsets[i] for i, k in matches(offsets, [b for _, b in decided])]

    def row(self) -> list[str]:
        """Cells of the table."""
        score, spoken = np.concatenate(self.probability), np.concatenate(self.spoken)
        speech = np.concatenate(self.speech)
        found = (len(self.onset_s) + len(self.offset_s)) / self.edges if self.edges else float("nan")
        return [
            f"{auc(score, speech):.3f}",
            f"{f1(spoken, speech):.3f}",
            f"{found:.0%}",
            _errors(self.onset_s),
            _errors(self.offset_s),
            f"{np.median(self.delay_s) * 1e3:.0f} / {np.percentile(self.delay_s, 90) * 1e3:.0f}"
            if self.delay_s
            else "",
        ]


def _errors(seconds: Sequence[float]) -> str:
    if not seconds:
        return ""
    ms = np.array(seconds) * 1_000
    return f"{np.median(ms):+.0f} / {np.percentile(np.abs(ms), 90):.0f}"


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────

BAND: dict[str, Callable[[Pcm], Pcm]] = {
    "16 kHz": lambda pcm: pcm,
    "8 kHz": lambda pcm: narrow(pcm, companded=False),
    "8 kHz mu-law": lambda pcm: narrow(pcm, companded=True),
}
LOST = (0.0, 0.02, 0.05)


def judges(config: DetectConfig) -> dict[str, Judge]:
    """The detectors that are compared."""
    name, sha256 = FILES[8_000]
    silero = SileroModel(RATE_HZ, FOLDER / name, sha256)
    return {
        "energy": alone(EnergyDetector),
        "webrtc, mode 2": alone(lambda: WebRtcDetector(2)),
        "silero, bare": alone(lambda: SileroDetector(silero, renew=False)),
        f"pipeline ({config.detector})": pipeline(config),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Accuracy of the voice-activity detectors on labelled recordings.")
    parser.add_argument("folder", type=Path, help="WAV files with .rttm, .csv, .txt or .lab files of the same name")
    parser.add_argument("--detector", choices=("silero", "webrtc", "energy"), default="silero", help="the pipeline's")
    options = parser.parse_args()
    config = DetectConfig(detector=options.detector)
    recordings = list(read_folder(options.folder))
    if not recordings:
        raise SystemExit(f"{options.folder} has no WAV file with a label file (.rttm, .csv, .txt, .lab) of its name")
    compared = judges(config)
    scores = {(band, lost, name): Score() for band in BAND for lost in LOST for name in compared}
    console = Console(width=max(110, Console().width))
    for recording in track(recordings, "Judging", console=Console(stderr=True)):
        for band, through in BAND.items():
            pcm = through(recording.pcm)
            for share in LOST:
                lost = losses(recording, share)
                for name, judge in compared.items():
                    scores[band, share, name].add(recording, lost, judge(pcm, lost))

    seconds = sum(len(recording.pcm) for recording in recordings) / RATE_HZ
    speech = sum(b - a for recording in recordings for a, b in recording.spans) / seconds
    table = Table(title=f"{len(recordings)} recordings, {seconds:.0f} s, {speech:.0%} speech")
    for heading in ("audio", "lost", "detector"):
        table.add_column(heading)
    for heading in ("ROC-AUC", "F1", "edges found", "onset, ms", "offset, ms", "told after, ms"):
        table.add_column(heading, justify="right")
    for (band, share, name), score in scores.items():
        table.add_row(band, f"{share:.0%}", name, *score.row(), end_section=name == list(compared)[-1])
    console.print(table)
    console.print(
        "Onset, offset: median error / 90th percentile of its size. Told after: the same, of when the start was told."
    )


if __name__ == "__main__":
    main()
