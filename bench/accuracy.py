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
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from callscope.config import Detect as DetectConfig
from callscope.evaluation.in_process import detected
from callscope.evaluation.judgement import Judgement
from callscope.evaluation.label_files import read_spans
from callscope.evaluation.recordings import framed, to_pcm
from callscope.evaluation.spans import GRID, Bools, Span, on_grid, spans_of
from callscope.evaluation.vad import VadTally, measures, tally
from callscope.streams import StreamId
from ingest.audio import g711
from processors.records import FRAME_SAMPLES, RATE_HZ, Pcm
from processors.stages.detectors import Detector, EnergyDetector, SileroDetector, WebRtcDetector
from processors.stages.detectors.silero import FILES, FOLDER, SileroModel

# ── recordings ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Recording:
    """A labelled recording, 16 kHz mono."""

    name: str
    pcm: Pcm
    spans: tuple[Span, ...]


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


def narrow(pcm: Pcm, *, companded: bool) -> Pcm:
    """Through 8 kHz, and mu-law if asked, and back."""
    low = soxr.resample(pcm.astype(np.float64), RATE_HZ, 8_000)
    if companded:
        values = np.unique(g711.decode_mu_law(np.arange(256, dtype=np.uint8))).astype(np.float64)
        low = values[np.searchsorted((values[1:] + values[:-1]) / 2, low)]  # the nearest
    wide = soxr.resample(np.round(low), 8_000, RATE_HZ)[: len(pcm)]
    return np.asarray(np.round(np.pad(wide, (0, len(pcm) - len(wide)))).clip(-32_768, 32_767), np.int16)


def losses(recording: Recording, share: float) -> Bools:
    """Which 20 ms frames are lost; the same in every run."""
    seed = int.from_bytes(hashlib.sha256(recording.name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).random(len(recording.pcm) // FRAME_SAMPLES) < share


# ── detectors ──────────────────────────────────────────────────────────────────────────────────────────────────────


Judge = Callable[[Pcm, Bools], Judgement]


def alone(make: Callable[[], Detector]) -> Judge:
    """A detector by itself: speech where the probability is at least 0.5; lost audio is silence to it."""

    def judge(pcm: Pcm, lost: Bools) -> Judgement:
        detector = make()
        heard = pcm * ~np.repeat(lost, FRAME_SAMPLES)
        found = detector.probabilities(heard[: len(heard) // detector.hop * detector.hop])
        probability = on_grid([(i * detector.hop, detector.hop, p) for i, p in enumerate(found)], len(pcm) // GRID)
        spoken = probability >= 0.5
        return Judgement(probability, spoken, spans_of(spoken))

    return judge


def pipeline(config: DetectConfig) -> Judge:
    """The stage `detect`, fed 20 ms frames; lost ones are holes."""
    return lambda pcm, lost: detected(framed(StreamId("bench", "customer"), pcm, lost), config)


# ── scores ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def count(recording: Recording, lost: Bools, judged: Judgement) -> VadTally:
    """Count a recording; what was lost is left out."""
    return tally(recording.spans, replace(judged, heard=~np.repeat(lost, FRAME_SAMPLES // GRID)))


def row(tallies: Sequence[VadTally]) -> list[str]:
    """Cells of the table, of one detector under one condition over all recordings."""
    scores = measures(tallies)
    return [
        f"{scores['auc']:.3f}",
        f"{scores['f1']:.3f}",
        f"{scores['edges_found']:.0%}",
        f"{scores['onset_median_ms']:+.0f} / {scores['onset_p90_ms']:.0f}",
        f"{scores['offset_median_ms']:+.0f} / {scores['offset_p90_ms']:.0f}",
        f"{scores['told_median_ms']:.0f} / {scores['told_p90_ms']:.0f}"
        if any(len(t.delay_s) for t in tallies)
        else "",  # of a detector alone there is no telling
    ]


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
    tallies: dict[tuple[str, float, str], list[VadTally]] = defaultdict(list)
    console = Console(width=max(110, Console().width))
    for recording in track(recordings, "Judging", console=Console(stderr=True)):
        for band, through in BAND.items():
            pcm = through(recording.pcm)
            for share in LOST:
                lost = losses(recording, share)
                for name, judge in compared.items():
                    tallies[band, share, name].append(count(recording, lost, judge(pcm, lost)))

    seconds = sum(len(recording.pcm) for recording in recordings) / RATE_HZ
    speech = sum(b - a for recording in recordings for a, b in recording.spans) / seconds
    table = Table(title=f"{len(recordings)} recordings, {seconds:.0f} s, {speech:.0%} speech")
    for heading in ("audio", "lost", "detector"):
        table.add_column(heading)
    for heading in ("ROC-AUC", "F1", "edges found", "onset, ms", "offset, ms", "told after, ms"):
        table.add_column(heading, justify="right")
    for (band, share, name), counted in tallies.items():
        table.add_row(band, f"{share:.0%}", name, *row(counted), end_section=name == list(compared)[-1])
    console.print(table)
    console.print(
        "Onset, offset: median error / 90th percentile of its size. Told after: the same, of when the start was told."
    )


if __name__ == "__main__":
    main()
