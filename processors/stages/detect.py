"""Finds speech in one stream, and cuts it into segments.

*Speech* begins when the detector's probability was at least `on_threshold` for `onset_ms`, and ends when it was below
`off_threshold` for `min_silence_ms`; it lasts from the first to the last hop that reached `on_threshold`, and what lies
between the thresholds only puts its end off. A *segment* is speech with its short pauses: it opens with the speech (and
some audio before it), goes on over pauses shorter than `max_pause_ms`, and ends at a longer one, at a long hole in the
audio, or when it has become too long. Audio of a pause is withheld until it is known on which side of that line the
pause falls, so that a segment never holds a long silence and is always contiguous::

    voiced        ▁▁▁▁████████▁▁▁██████▁▁▁▁▁▁▁▁▁▁▁▁████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
    speech            ├───────────────┤           ├──┤
    segment       ├┄┄┄─────────────────┄┄┄┄┄┄┄┄┄┄┄────┄┄┄┄┤
                pre-roll               short pause    hang-over

A hole of at most `max_gap_ms` is bridged: silence stands in for the audio, marked as lost in the segment, and a hop
that has lost audio in it is evidence of nothing. It neither helps to start speech (and what was voiced before it does
not either) nor to end it. A longer hole ends what is open, and everything begins anew behind it.

Everything is decided hop by hop, so how the audio was grouped into records leaves no trace in the results.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from callscope.config import Detect as DetectConfig
from callscope.streams import StreamId
from processors.records import (
    RATE_HZ,
    ActivityKind,
    AudioFrame,
    Pcm,
    SpeechFrame,
    VoiceActivity,
)
from processors.stages.detectors import Detector, DetectorFactory, detector_for
from processors.stages.marks import DetectMark
from processors.stages.rebuilding import Rebuilding
from processors.stages.span import Span

_NO_PCM: Pcm = np.zeros(0, np.int16)
_NO_PCM.flags.writeable = False


class Detect:
    """The detect stage of one stream.

    Args:
        stream: whose audio it is.
        config: the settings; times are rounded up to whole hops of the detector.
        detector_factory: makes the detector; None: the one that is configured for the leg.

    Raises:
        ModelError: the detector's model cannot be used, with the reason.
    """

    def __init__(self, stream: StreamId, config: DetectConfig, detector_factory: DetectorFactory | None = None) -> None:
        self._stream = stream
        self.detector: Detector = (
            detector_factory() if detector_factory is not None else detector_for(stream.leg, config)
        )
        hop = self._hop = self.detector.hop

        def hops(ms: float) -> int:
            return math.ceil(ms * RATE_HZ / 1_000 / hop)

        self._on, self._off = config.on_threshold, config.off_threshold
        self._onset_hops = max(1, hops(config.onset_ms))
        self._preroll_hops = hops(config.preroll_ms)
        self._min_silence = hops(config.min_silence_ms) * hop
        self._hangover = hops(config.hangover_ms) * hop
        self._max_pause = hops(config.max_pause_ms) * hop
        self._max_segment = hops(config.max_segment_s * 1_000) * hop
        self._max_gap = config.max_gap_ms * RATE_HZ // 1_000
        self._level_interval = config.level_interval_ms * RATE_HZ // 1_000

        self._out: list[VoiceActivity | SpeechFrame] = []
        self._rest = _NO_PCM
        self._now: int | None = None
        """Media time up to which hops were judged; None before the first audio."""
        self._level: Span | None = None
        self._lost: list[tuple[int, int]] = []
        """Where silence stands in for audio that did not come: start and end of each hole that still matters."""

        self._onset: Span | None = None
        """The run of voiced hops that may become speech."""
        self._speech: Span | None = None
        self._speech_end = 0
        """End of the last voiced hop of the last speech."""
        self._pause = Span(0)
        """What was heard since then, while speech is open."""
        self._silence = 0
        """Samples of silent hops since then, or since a doubtful one."""

        self._rebuilding: Rebuilding | None = None
        """As long as it is on the way to a mark, and decides nothing."""

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
        return self.decide(self.detector.probabilities(fresh), fresh, last=record.last)

    def flush(self) -> list[VoiceActivity | SpeechFrame]:
        """End the stream here: open speech and the open segment end."""
        self._break_off()
        return self._take()

    @property
    def needs_from(self) -> int | None:
        """Media time of the oldest audio that anything still open depends on; None before the first audio."""
        if self._segment is not None:
            return self._segment
        return self._held_from

    @property
    def judged_to(self) -> int | None:
        """Media time up to which hops were judged, or (after `admit`) from which they will be; None before audio."""
        return self._now

    @property
    def rebuilding(self) -> DetectMark | None:
        """The mark on the way to which it is; None: it decides."""
        return None if self._rebuilding is None else self._rebuilding.mark

    def mark(self) -> DetectMark | None:
        """What must be known, beside the audio, to go on from here; None before the first audio.

        To be asked between `decide` and `admit`.
        """
        if self._rebuilding is not None or self._now is None:
            return self.rebuilding
        birth = self.detector.birth()
        return DetectMark(
            detector=self.detector.name,
            hop=self._hop,
            decided_to=self._now,
            detector_from=self._now - birth.age_hops * self._hop,
            primed=birth.primed,
            floor_dbfs=birth.floor_dbfs,
            segment=self._segment,
            held_from=self._now - len(self._held) * self._hop,
            speech=None if self._speech is None else replace(self._speech),
            pause=None if self._speech is None else replace(self._pause),
            onset=None if self._onset is None else replace(self._onset),
            level=None if self._level is None else replace(self._level),
            speech_end=self._speech_end,
            silence=self._silence,
        )

    def rebuild(self, mark: DetectMark) -> bool:
        """Go on from a mark: the audio from `mark.audio_from` on follows. To be asked before the first audio.

        What was decided up to the mark is not told again. The open segment's audio is, from its beginning.

        Returns:
            False where the mark is of another detector, or unsound: nothing has changed.
        """
        if not mark.fits(self.detector.name, self._hop):
            return False
        self._rebuilding = Rebuilding(mark, self.detector)
        self._keep_on(self._rebuilding)
        return True

    # A detector that judges many streams in one batch stands between these two halves of `step`.

    def admit(self, record: AudioFrame) -> Pcm:
        """First half of `step`: the audio that waits to be judged.

        Returns:
            Whole hops, shape (n * hop,), contiguous with what came before or after a reset of the detector.
        """
        start, pcm = record.start, record.pcm
        if self._now is None:
            self._now = start
        expected = self._now + len(self._rest)
        if start < expected:
            skip = min(expected - start, len(pcm))
            start, pcm = start + skip, pcm[skip:]
            if start < expected:
                return _NO_PCM
        parts = [self._rest, pcm]
        if start > expected + self._max_gap:
            self._break_off()
            self._now = start
            parts = [pcm]
        elif start > expected:
            self._lost.append((expected, start))
            parts.insert(1, np.zeros(start - expected, np.int16))
        pcm = np.concatenate(parts) if len(parts) > 1 else pcm
        whole = len(pcm) // self._hop * self._hop
        self._rest = pcm[whole:].copy()
        if self._rebuilding is None:
            return pcm[:whole]
        judged = self._rebuilding.pass_over(pcm[:whole])
        self._keep_on(self._rebuilding)
        return judged

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
        for audio, wide, probability in zip(hops, hops.astype(np.float64), probabilities.tolist(), strict=True):
            if self._rebuilding is not None:
                self._rebuilding.hear(audio)
                self._keep_on(self._rebuilding)
                continue
            self._hear(audio, int(wide @ wide), probability)  # below 2**53, so exact whatever the order
        if last:
            self._break_off()
        return self._take()

    def _keep_on(self, rebuilding: Rebuilding) -> None:
        """Follow what is heard again; where that was the last of it, know what was known there."""
        self._now, self._held = rebuilding.now, rebuilding.held
        if not rebuilding.complete:
            return
        self._rebuilding, mark = None, rebuilding.mark
        for _ in range((mark.held_from - mark.since) // self._hop):
            self._ready.append(self._held.popleft())
        self._segment, self._ready_start = mark.segment, mark.since
        self._speech, self._onset, self._level = (
            None if span is None else replace(span) for span in (mark.speech, mark.onset, mark.level)
        )
        self._pause = Span(mark.decided_to) if mark.pause is None else replace(mark.pause)
        self._speech_end, self._silence = mark.speech_end, mark.silence

    # ── one hop ────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, audio: Pcm, energy: int, probability: float) -> None:
        assert self._now is not None, "admit() has set it"
        start = self._now
        end = self._now = start + self._hop
        self._held.append(audio)
        heard = self._hop
        if self._lost:
            heard -= sum(max(0, min(b, end) - max(a, start)) for a, b in self._lost)
        if heard == self._hop and probability >= self._on:
            self._voiced(start, energy, probability)
        else:
            if heard == self._hop:
                self._silence = self._silence + self._hop if probability < self._off else 0
            self._not_voiced(heard, energy, probability)
        self._keep_level(start, heard, energy, probability)

    def _voiced(self, start: int, energy: int, probability: float) -> None:
        if self._speech is not None:
            self._speech.absorb(self._pause)
            self._speech.add(self._hop, energy, probability)
            self._speech_end = start + self._hop
            self._pause, self._silence = Span(start + self._hop), 0
            self._end_what_got_too_long()
            if self._segment is None:  # the last one was cut, and here speech goes on
                self._open_segment(start)
            self._release()
            return
        if self._onset is None:
            self._onset = Span(start)
        self._onset.add(self._hop, energy, probability)
        if self._onset.hops >= self._onset_hops:
            self._start_speech(self._onset)

    def _not_voiced(self, heard: int, energy: int, probability: float) -> None:
        """A silent hop, a doubtful one, or one with lost audio in it."""
        assert self._now is not None, "admit() has set it"
        self._onset = None
        since = self._now - self._speech_end
        if self._segment is not None and since <= self._hangover:
            self._release()
        if self._speech is not None:
            self._pause.add(heard, energy, probability)
            if self._silence >= self._min_silence or since >= self._max_pause:
                self._end_speech()
        if self._speech is None:
            if self._segment is not None and since >= self._max_pause:
                self._close_segment()
            if self._segment is None:
                self._forget_old_audio()

    # ── speech ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_speech(self, onset: Span) -> None:
        assert self._now is not None, "speech starts on a hop"
        self._end_what_got_too_long()
        self._speech, self._onset = onset, None
        self._speech_end = self._now
        self._pause, self._silence = Span(self._now), 0
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

    def _end_what_got_too_long(self) -> None:
        """End the open segment where it is, if the audio that is held would make it too long."""
        assert self._now is not None, "segments end on a hop"
        if self._segment is not None and self._now - self._segment > self._max_segment:
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
        start, end = self._ready_start, self._ready_start + len(pcm)
        self._ready_start = end
        self._ready.clear()
        cuts = sorted({start, end, *(at for hole in self._lost for at in hole if start < at < end)})
        for a, b in pairwise(cuts) if len(cuts) > 1 else [(start, end)]:
            lost = any(hole <= a < hole_end for hole, hole_end in self._lost) and a < b
            part = pcm[a - start : b - start]
            self._out.append(SpeechFrame(self._stream, self._segment, a, part, last and b == end, lost=lost))

    # ── holes, levels, results ─────────────────────────────────────────────────────────────────────────────────

    @property
    def _held_from(self) -> int | None:
        return None if self._now is None else self._now - len(self._held) * self._hop

    def _break_off(self) -> None:
        """Nothing that follows is connected with what came before."""
        self._rebuilding = None
        self._tell_level()
        if self._now is not None:
            self._now += len(self._rest)
        if self._speech is not None:
            if self._segment is not None and not self._held:
                self._ready.append(self._rest)  # less than a hop, which nobody will judge
            self._end_speech()
        self._close_segment()
        self._onset = None
        self._held.clear()
        self._rest = _NO_PCM
        self._lost.clear()
        self.detector.reset()

    def _keep_level(self, start: int, heard: int, energy: int, probability: float) -> None:
        """Count a hop into the interval in which it starts; tell the level when the interval is over."""
        if self._level is None:
            self._level = Span(start)
        self._level.add(heard, energy, probability)
        if (start + self._hop) // self._level_interval > self._level.start // self._level_interval:
            self._tell_level()

    def _tell_level(self) -> None:
        """Of the hops since the last time; nothing if nothing of them was heard."""
        level, self._level = self._level, None
        if level is not None and level.hops:
            assert self._now is not None, "there were hops"
            duration = self._now - level.start
            self._tell(ActivityKind.LEVEL, level.start, duration, level, speaking=self._speech is not None)

    def _tell(self, kind: ActivityKind, start: int, duration: int, over: Span, *, speaking: bool) -> None:
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
                detector=self.detector.name,
            )
        )

    def _take(self) -> list[VoiceActivity | SpeechFrame]:
        self._send_ready(last=False)
        if self._lost:
            held_from = self._held_from
            self._lost = [hole for hole in self._lost if held_from is None or hole[1] > held_from]
        out, self._out = self._out, []
        return out
