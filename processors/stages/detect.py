"""Finds speech in one stream, and cuts it into segments.

*Speech* is what the detector hears, bridged over the hang-over. A *segment* is speech with its short pauses: it opens
with the speech (and some audio before it), goes on over pauses shorter than `max_pause_ms`, and ends at a longer one,
at a hole in the audio, or when it has become too long. Audio of a pause is withheld until it is known on which side
of that line the pause falls, so that a segment never holds a long silence and is always contiguous::

    voiced        ▁▁▁▁████████▁▁▁██████▁▁▁▁▁▁▁▁▁▁▁▁████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
    speech            ├───────────────┤           ├──┤
    segment       ├┄┄┄─────────────────┄┄┄┄┄┄┄┄┄┄┄────┄┄┄┄┤
                pre-roll               short pause    hang-over

Everything is decided hop by hop, so how the audio was grouped into records leaves no trace in the results.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from callscope.config import Detect as DetectConfig
from processors.records import (
    RATE_HZ,
    ActivityKind,
    AudioFrame,
    Pcm,
    SpeechFrame,
    StreamId,
    VoiceActivity,
)
from processors.stages.detectors import Detector, DetectorFactory, WebRtcDetector

SILENCE_DBFS = -100.0
"""The lowest level that is told."""

VOICED_FROM = 0.5
"""A hop with at least this speech probability is voiced."""

_NO_PCM: Pcm = np.zeros(0, np.int16)
_NO_PCM.flags.writeable = False


class _Span:
    """Level and probability over some hops. Energy is summed in integers: exact in any order."""

    __slots__ = ("energy", "hops", "probability", "samples", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.samples = 0
        self.energy = 0
        self.probability = 0.0
        self.hops = 0

    def add(self, samples: int, energy: int, probability: float) -> None:
        self.samples += samples
        self.energy += energy
        self.probability += probability
        self.hops += 1

    def absorb(self, other: _Span) -> None:
        self.samples += other.samples
        self.energy += other.energy
        self.probability += other.probability
        self.hops += other.hops

    @property
    def mean_probability(self) -> float:
        return self.probability / self.hops if self.hops else 0.0

    @property
    def level_dbfs(self) -> float:
        if not self.energy:
            return SILENCE_DBFS
        return max(SILENCE_DBFS, 10 * math.log10(self.energy / self.samples / 32_768**2))


class Detect:
    """The detect stage of one stream.

    Args:
        stream: whose audio it is.
        config: the settings; times are rounded up to whole hops of the detector.
        detector_factory: makes the detector; WebRTC's by default.
    """

    def __init__(self, stream: StreamId, config: DetectConfig, detector_factory: DetectorFactory | None = None) -> None:
        self._stream = stream
        self._detector: Detector = (
            detector_factory() if detector_factory is not None else WebRtcDetector(config.aggressiveness)
        )
        hop = self._hop = self._detector.hop

        def hops(ms: float) -> int:
            return math.ceil(ms * RATE_HZ / 1_000 / hop)

        self._onset_hops = max(1, hops(config.onset_ms))
        self._preroll_hops = hops(config.preroll_ms)
        self._hangover = hops(config.hangover_ms) * hop
        self._max_pause = hops(config.max_pause_ms) * hop
        self._max_segment = hops(config.max_segment_s * 1_000) * hop
        self._level_interval = config.level_interval_ms * RATE_HZ // 1_000

        self._out: list[VoiceActivity | SpeechFrame] = []
        self._rest = _NO_PCM
        self._now: int | None = None
        """Media time up to which hops were judged; None before the first audio."""
        self._level: _Span | None = None

        self._onset: _Span | None = None
        """The run of voiced hops that may become speech."""
        self._speech: _Span | None = None
        self._speech_end = 0
        """End of the last voiced hop of the last speech."""
        self._pause = _Span(0)
        """Unvoiced hops since then, while the hang-over runs."""

        self._segment: int | None = None
        self._held: deque[Pcm] = deque()
        """Audio up to now that no segment has got (yet), one hop an item."""
        self._ready: list[Pcm] = []
        """Audio the open segment has got that is not sent yet."""
        self._ready_start = 0

    def step(self, record: AudioFrame) -> list[VoiceActivity | SpeechFrame]:
        """Take in audio.

        Args:
            record: audio that was heard already is skipped; `last` ends the stream.

        Returns:
            What became known: edges and levels of speech, and the segments' audio.
        """
        fresh = self.admit(record)
        return self.decide(self._detector.probabilities(fresh), fresh, last=record.last)

    def flush(self) -> list[VoiceActivity | SpeechFrame]:
        """End the stream here: open speech and the open segment end."""
        self._break_off()
        return self._take()

    @property
    def needs_from(self) -> int | None:
        """Media time of the oldest audio that anything still open depends on; None before the first audio."""
        if self._segment is not None:
            return self._segment
        return None if self._now is None else self._now - len(self._held) * self._hop

    # A detector that judges many streams in one batch stands between these two halves of `step`.

    def admit(self, record: AudioFrame) -> Pcm:
        """First half of `step`: the audio that waits to be judged.

        Returns:
            Whole hops, shape (n * hop,), contiguous with what came before or after a reset of the detector.
        """
        expected = None if self._now is None else self._now + len(self._rest)
        start, pcm = record.start, record.pcm
        if expected is not None and start < expected:
            skip = min(expected - start, len(pcm))
            start, pcm = start + skip, pcm[skip:]
            if start < expected:
                return _NO_PCM
        elif expected is not None and (start > expected or record.gap_before > 0):
            self._break_off()
            self._now = start
        if self._now is None:
            self._now = start
        pcm = np.concatenate((self._rest, pcm)) if len(self._rest) else pcm
        whole = len(pcm) // self._hop * self._hop
        self._rest = pcm[whole:].copy()
        return pcm[:whole]

    def decide(
        self, probabilities: NDArray[np.float64], pcm: Pcm, *, last: bool = False
    ) -> list[VoiceActivity | SpeechFrame]:
        """Second half of `step`.

        Args:
            probabilities: the detector's, shape (n,).
            pcm: what `admit` returned, shape (n * hop,).
            last: the stream ends with this audio.
        """
        hops = pcm.reshape(-1, self._hop)
        wide = hops.astype(np.int64)
        energies = (wide * wide).sum(axis=1).tolist()
        for audio, energy, probability in zip(hops, energies, probabilities.tolist(), strict=True):
            self._hear(audio, energy, probability)
        if last:
            self._break_off()
        return self._take()

    # ── one hop ────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, audio: Pcm, energy: int, probability: float) -> None:
        assert self._now is not None, "admit() has set it"
        start = self._now
        self._now = start + self._hop
        self._held.append(audio)
        if probability >= VOICED_FROM:
            self._voiced(start, energy, probability)
        else:
            self._unvoiced(start, energy, probability)
        self._keep_level(start, energy, probability)

    def _voiced(self, start: int, energy: int, probability: float) -> None:
        if self._speech is not None:
            self._speech.absorb(self._pause)
            self._speech.add(self._hop, energy, probability)
            self._speech_end = start + self._hop
            self._pause = _Span(start + self._hop)
            if self._segment is None:  # the last one was cut in the hang-over, and here speech goes on
                self._open_segment(start)
            self._release()
            return
        if self._onset is None:
            self._onset = _Span(start)
        self._onset.add(self._hop, energy, probability)
        if self._onset.hops >= self._onset_hops:
            self._start_speech(self._onset)

    def _unvoiced(self, start: int, energy: int, probability: float) -> None:
        if self._speech is not None:
            self._pause.add(self._hop, energy, probability)
            if self._segment is not None:
                self._release()
            if start + self._hop - self._speech_end >= self._hangover:
                self._end_speech()
        self._onset = None
        if self._speech is None and self._segment is not None:
            if start + self._hop - self._speech_end >= self._max_pause:
                self._close_segment()
        if self._segment is None:
            self._forget_old_audio()

    # ── speech ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_speech(self, onset: _Span) -> None:
        assert self._now is not None, "speech starts on a hop"
        if self._segment is not None and self._now - self._segment > self._max_segment:
            self._close_segment()
        self._speech, self._onset = onset, None
        self._speech_end = self._now
        self._pause = _Span(self._now)
        if self._segment is None:
            self._open_segment(onset.start)
        self._tell(ActivityKind.SPEECH_START, onset.start, 0, onset, speaking=True)
        self._release()

    def _end_speech(self) -> None:
        speech, self._speech = self._speech, None
        assert speech is not None, "only open speech ends"
        self._tell(ActivityKind.SPEECH_END, speech.start, self._speech_end - speech.start, speech, speaking=False)

    # ── segments ───────────────────────────────────────────────────────────────────────────────────────────────

    def _open_segment(self, voiced_from: int) -> None:
        """Open one with the pre-roll before `voiced_from`, as far as there is audio that no other segment has."""
        assert self._now is not None, "a segment opens on a hop"
        wanted = self._preroll_hops + (self._now - voiced_from) // self._hop
        while len(self._held) > wanted:
            self._held.popleft()
        self._segment = self._ready_start = self._now - len(self._held) * self._hop

    def _release(self) -> None:
        """Give the open segment all audio up to now; cut it where it has become too long."""
        assert self._now is not None, "audio is released on a hop"
        self._ready.extend(self._held)
        self._held.clear()
        if self._segment is not None and self._now - self._segment >= self._max_segment:
            self._close_segment()

    def _close_segment(self) -> None:
        self._send_ready(last=True)
        self._segment = None

    def _forget_old_audio(self) -> None:
        while len(self._held) > self._preroll_hops + self._onset_hops:
            self._held.popleft()

    def _send_ready(self, *, last: bool) -> None:
        if self._segment is None or not (self._ready or last):
            return
        pcm = np.concatenate(self._ready) if self._ready else _NO_PCM
        self._out.append(SpeechFrame(self._stream, self._segment, self._ready_start, pcm, last))
        self._ready_start += len(pcm)
        self._ready.clear()

    # ── holes, levels, results ─────────────────────────────────────────────────────────────────────────────────

    def _break_off(self) -> None:
        """Nothing that follows is connected with what came before."""
        self._tell_level()
        if self._speech is not None:
            self._end_speech()
        self._close_segment()
        self._onset = None
        self._held.clear()
        if self._now is not None:
            self._now += len(self._rest)
        self._rest = _NO_PCM
        self._detector.reset()

    def _keep_level(self, start: int, energy: int, probability: float) -> None:
        """Count a hop into the interval in which it starts; tell the level when the interval is over."""
        if self._level is None:
            self._level = _Span(start)
        self._level.add(self._hop, energy, probability)
        if (start + self._hop) // self._level_interval > self._level.start // self._level_interval:
            self._tell_level()

    def _tell_level(self) -> None:
        level, self._level = self._level, None
        if level is not None:
            self._tell(ActivityKind.LEVEL, level.start, level.samples, level, speaking=self._speech is not None)

    def _tell(self, kind: ActivityKind, start: int, duration: int, over: _Span, *, speaking: bool) -> None:
        self._out.append(
            VoiceActivity(
                stream=self._stream,
                kind=kind,
                start=start,
                duration=duration,
                speaking=speaking,
                probability=over.mean_probability,
                level_dbfs=over.level_dbfs,
                segment=self._segment,
                detector=self._detector.name,
            )
        )

    def _take(self) -> list[VoiceActivity | SpeechFrame]:
        self._send_ready(last=False)
        out, self._out = self._out, []
        return out
