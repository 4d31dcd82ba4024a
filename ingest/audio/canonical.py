"""A source's bytes to canonical audio: decoded, its channels apart, at 16 kHz, in whole 20 ms frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.audio.framing import FRAME_SAMPLES, AudioFormat, Framer, SampleReader
from ingest.audio.resample import RATE_HZ, Resampler


@dataclass(frozen=True, slots=True, eq=False)
class Hole:
    """What a hole in the source's timeline comes to on the grid of frames.

    Attributes:
        frames: what is complete before it, shape (k * 320, channels); a started frame is filled up with silence.
        gap: samples at 16 kHz between `frames` and the next frame: whole frames that will not come. What is left of
            the hole is silence at the beginning of the next frame.
        start: media time at which the hole begins, samples at 16 kHz.
        samples: its whole length at 16 kHz.
    """

    frames: NDArray[np.int16]
    gap: int
    start: int
    samples: int


class CanonicalAudio:
    """One source's conversion. The frames do not depend on how the bytes were cut into pieces.

    Media time is computed from the count of the source's samples, heard and missing: however many holes there are and
    however often the resampler begins anew, it does not drift.

    Args:
        audio_format: how the source writes its audio.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._reader = SampleReader(audio_format)
        self._resampler = Resampler(audio_format.rate_hz, audio_format.channels)
        self._framer = Framer(audio_format.channels)
        self._taken = 0  # source samples, heard and missing
        self._made = 0  # samples at 16 kHz that came of them

    @property
    def incomplete_bytes(self) -> int:
        """Bytes that wait for the rest of their sample; more than 0 at the end means the source stopped inside one."""
        return self._reader.incomplete_bytes

    @property
    def taken(self) -> int:
        """Source samples per channel so far, heard and missing."""
        return self._taken

    @property
    def position(self) -> int:
        """Media time of the source's next sample, samples at 16 kHz; frames come out later than that."""
        return media_time(self._taken, self._format.rate_hz)

    def drop_incomplete(self) -> None:
        """Forget the bytes that wait: the rest of their sample will not come."""
        self._reader.drop_incomplete()

    def push(self, data: bytes) -> NDArray[np.int16]:
        """The frames that `data` completes, shape (k * 320, channels) at 16 kHz; k may be 0."""
        return self._convert(self._reader.push(data))

    def skip(self, samples: int) -> Hole:
        """A hole; one of less than a frame becomes silence, as if the source had sent that.

        Args:
            samples: of the source, per channel.
        """
        start = self.position
        self.drop_incomplete()
        if samples * RATE_HZ < FRAME_SAMPLES * self._format.rate_hz:
            frames = self._convert(np.zeros((samples, self._format.channels), np.int16))
            return Hole(frames, 0, start, self.position - start)
        before = self._framer.push(self._rest_of_run())
        self._taken += samples
        hole = self.position - self._made
        self._made += hole
        fill = min(self._framer.wanting, hole)
        gap = (hole - fill) // FRAME_SAMPLES * FRAME_SAMPLES
        filled = self._framer.push(self._silence(fill))
        self._framer.push(self._silence(hole - fill - gap))
        self._resampler = Resampler(self._format.rate_hz, self._format.channels)
        return Hole(np.concatenate((before, filled)), gap, start, hole)

    def flush(self) -> tuple[NDArray[np.int16], int]:
        """What is left, the last frame filled up with silence; nothing may be pushed afterwards.

        Returns:
            Frames of shape (k * 320, channels), and how many samples at the end are silence the source did not send.
        """
        frames = self._framer.push(self._rest_of_run())
        last, padded = self._framer.flush()
        return np.concatenate((frames, last)), padded

    def _convert(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        self._taken += len(samples)
        converted = self._resampler.push(samples)
        self._made += len(converted)
        return self._framer.push(converted)

    def _rest_of_run(self) -> NDArray[np.int16]:
        """What the resampler still holds, to the sample that the source's count says: it rounds by itself otherwise."""
        rest = self._resampler.flush()
        wanted = max(0, self.position - self._made)
        self._made += wanted
        if len(rest) < wanted:
            return np.concatenate((rest, self._silence(wanted - len(rest))))
        return rest[:wanted]

    def _silence(self, samples: int) -> NDArray[np.int16]:
        return np.zeros((samples, self._format.channels), np.int16)


def media_time(samples: int, rate_hz: int) -> int:
    """Source samples since the stream began as media time, samples at 16 kHz, rounded to the nearest."""
    return (2 * samples * RATE_HZ + rate_hz) // (2 * rate_hz)
