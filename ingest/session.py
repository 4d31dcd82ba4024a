"""One stream's records: its sequence, its media clock and its gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from callscope.streams import StreamId
from ingest.audio.framing import FRAME_SAMPLES

RECORD_SAMPLES: Final = 3 * FRAME_SAMPLES
"""The longest record: 60 ms. Longer ones would make a worker wait for audio that is there."""


@dataclass(frozen=True, slots=True)
class AudioRecord:
    """What becomes one record of `audio.frames`.

    Attributes:
        stream: whose audio it is.
        seq: counts the stream's records from 0.
        start: media time of the first sample, samples at 16 kHz.
        pcm: 16 kHz mono s16le, a whole number of 20 ms frames; may be empty on the last record only.
        gap_before: samples missing before this record; `start` counts them.
        last: the stream ends with this record.
        captured_ns: when the source captured the first sample, nanoseconds since the epoch; 0 if it did not say.
    """

    stream: StreamId
    seq: int
    start: int
    pcm: bytes
    gap_before: int = 0
    last: bool = False
    captured_ns: int = 0

    @property
    def end(self) -> int:
        """Media time just after the last sample."""
        return self.start + len(self.pcm) // 2


class Session:
    """Numbers one stream's audio. Media time is the count of samples, heard and missing, since the stream began."""

    def __init__(self, stream: StreamId) -> None:
        self.stream = stream
        self._seq = 0
        self._clock = 0
        self._gap = 0

    @property
    def clock(self) -> int:
        """Media time of the next sample."""
        return self._clock

    def audio(self, pcm: NDArray[np.int16]) -> list[AudioRecord]:
        """The records of some audio, none longer than 60 ms.

        Args:
            pcm: shape (k * 320,).
        """
        return [self._record(pcm[at : at + RECORD_SAMPLES]) for at in range(0, len(pcm), RECORD_SAMPLES)]

    def skip(self, samples: int) -> None:
        """The source lost, discarded or paused that many samples; the next record says so."""
        self._clock += samples
        self._gap += samples

    def end(self, pcm: NDArray[np.int16]) -> list[AudioRecord]:
        """The stream's last records, at least one; exactly the last of them has `last` set.

        Args:
            pcm: the rest of the audio, shape (k * 320,); k may be 0.
        """
        head = max(0, len(pcm) - 1) // RECORD_SAMPLES * RECORD_SAMPLES
        return [*self.audio(pcm[:head]), self._record(pcm[head:], last=True)]

    def _record(self, pcm: NDArray[np.int16], *, last: bool = False) -> AudioRecord:
        record = AudioRecord(
            self.stream, self._seq, self._clock, pcm.astype("<i2", copy=False).tobytes(), self._gap, last
        )
        self._seq += 1
        self._clock += len(pcm)
        self._gap = 0
        return record
