"""Legs as WAV files, 16 kHz 16-bit: written as the records come, holes filled with silence and listed."""

from __future__ import annotations

import csv
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import numpy as np
import soundfile

from callscope.streams import StreamId
from schemas.v1.audio_pb2 import AudioFrame

RATE_HZ: Final = 16_000
LONGEST_S: Final = 24 * 3_600
"""A leg's file ends here: a WAV file cannot be longer than 4 GiB, and a stream's media time may be wrong."""
_OPEN_FILES: Final = 64
_BLOCK: Final = 1 << 16


def safe_name(name: str) -> str:
    """A call id or leg as a name of a file or folder: nothing in it can lead elsewhere."""
    quoted = quote(name, safe=" @+=,")
    return quoted.replace(".", "%2E") if quoted.strip(".") == "" else quoted


@dataclass
class Leg:
    """What is known of a leg's audio.

    Attributes:
        path: of its WAV file.
        samples: written so far, silence included.
        records: that it came in.
        gaps: holes in it.
        gap_samples: their length.
        ended: its last record was there.
        cut: it went on beyond `LONGEST_S`.
    """

    path: Path
    samples: int = 0
    records: int = 0
    gaps: int = 0
    gap_samples: int = 0
    ended: bool = False
    cut: bool = False


class LegFiles:
    """Writes the records of any number of streams, each into a file of its own; close it.

    Args:
        folder: where to. A call has a folder there, and each of its legs a file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.legs: dict[StreamId, Leg] = {}
        self._open: OrderedDict[StreamId, soundfile.SoundFile] = OrderedDict()
        self._gaps_file = (folder / "gaps.csv").open("w", encoding="utf-8", newline="")
        self._gaps = csv.writer(self._gaps_file)
        self._gaps.writerow(("call", "leg", "start", "end"))

    def add(self, frame: AudioFrame) -> None:
        """Write a record; audio that was written already is passed over."""
        stream = StreamId(frame.call_id, frame.leg)
        leg = self.legs.get(stream)
        if leg is None:
            path = self._folder / safe_name(stream.call_id) / f"{safe_name(stream.leg)}.wav"
            leg = self.legs[stream] = Leg(path)
        leg.records += 1
        leg.ended = leg.ended or frame.last
        pcm = np.frombuffer(frame.pcm[: len(frame.pcm) // 2 * 2], "<i2")
        pcm, start = pcm[max(0, leg.samples - frame.start) :], max(frame.start, leg.samples)
        if start + len(pcm) > LONGEST_S * RATE_HZ:
            leg.cut = True
        elif len(pcm) or start > leg.samples:
            self._write(stream, leg, start, pcm)

    def _write(self, stream: StreamId, leg: Leg, start: int, pcm: np.ndarray) -> None:
        file = self._file(stream, leg)
        if start > leg.samples:
            leg.gaps += 1
            leg.gap_samples += start - leg.samples
            self._gaps.writerow((stream.call_id, stream.leg, f"{leg.samples / RATE_HZ:.4f}", f"{start / RATE_HZ:.4f}"))
            for at in range(leg.samples, start, _BLOCK):
                file.write(np.zeros(min(_BLOCK, start - at), np.int16))
        file.write(pcm)
        leg.samples = start + len(pcm)
        if leg.ended:
            self._open.pop(stream).close()

    def _file(self, stream: StreamId, leg: Leg) -> soundfile.SoundFile:
        file = self._open.pop(stream, None)
        if file is None:
            if leg.path.exists():
                file = soundfile.SoundFile(leg.path, "r+")
                file.seek(0, soundfile.SEEK_END)
            else:
                leg.path.parent.mkdir(parents=True, exist_ok=True)
                file = soundfile.SoundFile(leg.path, "w", RATE_HZ, 1, "PCM_16")
        self._open[stream] = file
        while len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def close(self) -> None:
        """Close every file."""
        while self._open:
            self._open.popitem()[1].close()
        self._gaps_file.close()


def stereo(legs: Sequence[Path], to: Path) -> None:
    """Two legs as one file, the first one left; the shorter one is silent at its end. The legs' files go.

    Args:
        legs: one or two files; one alone stays a file of one channel.
        to: the file to write.
    """
    if len(legs) == 1:
        legs[0].rename(to)
        return
    with (
        soundfile.SoundFile(legs[0]) as left,
        soundfile.SoundFile(legs[1]) as right,
        soundfile.SoundFile(to, "w", RATE_HZ, 2, "PCM_16") as both,
    ):
        for _ in range(0, max(left.frames, right.frames), _BLOCK):
            blocks = [side.read(_BLOCK, dtype="int16") for side in (left, right)]
            longest = max(len(block) for block in blocks)
            both.write(np.stack([np.pad(block, (0, longest - len(block))) for block in blocks], axis=1))
    for path in legs:
        path.unlink()
