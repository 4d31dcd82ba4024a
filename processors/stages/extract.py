"""Computes features inside each speech segment: descriptors as they come, a sliding window, the whole utterance.

Row k of the low-level descriptors stands for the segment's samples from k * 10 ms on. A window is due when the number
of known rows reaches a multiple of the hop; it spans the last `window_s` before the end of its newest row. The engine
knows a row only some time after the audio (the pitch window, the smoothing of pitch), and `lookahead` says how long:
`start + duration + lookahead` is the end of the audio a record depends on.

The engine is woken when a window may become due, not for every frame: many streams take turns, and each turn costs it
what the others have pushed out of the processor's cache. No window comes later for it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from callscope.config import Extract as ExtractConfig
from callscope.feature_sets import EGEMAPS_LLDS
from callscope.streams import StreamId
from processors.records import (
    FRAME_SAMPLES,
    NO_FLOATS,
    RATE_HZ,
    FeatureWindow,
    Pcm,
    SpeechFrame,
    StreamStatistics,
    VoiceSummary,
    WindowKind,
)
from processors.stages.engine import HOP_SAMPLES, EngineFactory, FeatureEngine
from processors.stages.running_picture import RunningPicture

_ROW_MS = 10
_NO_PICTURE = VoiceSummary(0.0, None, None, 0.0, None, None)

_KEPT_STATISTICS = 32
"""Segments that may come again after later ones, and still be added to the statistics of their time."""


class Extract:
    """The extract stage of one stream.

    Args:
        stream: whose speech it is.
        config: the settings; times are rounded up to whole rows of 10 ms.
        engine_factory: makes an engine for each segment.
    """

    def __init__(self, stream: StreamId, config: ExtractConfig, engine_factory: EngineFactory) -> None:
        self._stream = stream
        self._config = config
        self._engine_factory = engine_factory
        self._segment: _Segment | None = None
        self._done = -1
        """Segments up to this id have ended, or were given up."""
        self._left_out: int | None = None
        """The segment whose features are left out, until it ends."""
        self._statistics = deque([(-1, StreamStatistics())], maxlen=_KEPT_STATISTICS)
        """Of the stream's finished segments, as they were after each of the last."""

    def step(self, record: SpeechFrame) -> list[FeatureWindow]:
        """Take in speech.

        A segment whose beginning or middle is missing (`detect` never sends one, but a reader that starts in the middle
        of a topic sees one) has no features: they would not be those of the segment. Audio seen before is skipped.

        Args:
            record: the next audio of a segment; `last` ends it.

        Returns:
            The windows that became due, and the utterance of a segment that ended.

        Raises:
            FeatureEngineError: the engine failed; `drop` the segment.
        """
        if record.segment == self._left_out:
            return self.leave_out(record)
        if record.segment <= self._done:
            return []
        out: list[FeatureWindow] = []
        if self._segment is not None and record.segment != self._segment.id:
            out += self.flush()
        if self._segment is None:
            if record.start != record.segment:
                return out
            self._segment = _Segment(self._stream, record.segment, self._config, self._engine_factory())
        heard = self._segment.heard_to - record.start
        if heard < 0:
            self.drop()
            return out
        out += self._segment.hear(record.pcm[heard:], lost=record.lost)
        if record.last:
            out += self.flush()
        return out

    def leave_out(self, record: SpeechFrame) -> list[FeatureWindow]:
        """Take in speech without computing anything.

        The engine needs all of a segment's audio: one of which any is left out gets no features any more, and no
        window. The next one has them again.

        Args:
            record: the next audio of a segment; `last` ends it.

        Returns:
            When it ends, its utterance, which says that its features are missing, and why.

        Raises:
            FeatureEngineError: the engine failed at the end of the segment before; `drop` it.
        """
        if record.segment <= self._done and record.segment != self._left_out:
            return []
        if self._segment is not None and record.segment != self._segment.id:
            return [*self.flush(), *self.leave_out(record)]
        self.drop()
        self._done = record.segment
        self._left_out = None if record.last else record.segment
        if not record.last:
            return []
        end = record.start + len(record.pcm)
        return [
            FeatureWindow(
                stream=self._stream,
                segment=record.segment,
                kind=WindowKind.UTTERANCE,
                start=record.segment,
                duration=end - record.segment,
                coverage=0.0,
                lookahead=0,
                feature_set="",
                lld_first=0,
                lld=NO_FLOATS.reshape(0, len(EGEMAPS_LLDS)),
                functionals=NO_FLOATS,
                summary=_NO_PICTURE,
                missing_because="shed",
            )
        ]

    def flush(self) -> list[FeatureWindow]:
        """End an open segment here.

        Raises:
            FeatureEngineError: the engine failed; `drop` the segment.
        """
        if self._segment is None:
            return []
        utterance = self._segment.finish(self._statistics_before(self._segment.id))
        self.learn(utterance)
        self.drop()
        return [utterance]

    def learn(self, window: FeatureWindow) -> None:
        """Take an utterance into the stream's statistics: to rebuild them from records that were sent before."""
        if window.statistics is not None and window.segment > self._statistics[-1][0]:
            self._statistics.append((window.segment, window.statistics))

    def drop(self) -> None:
        """Give up an open segment without results."""
        segment, self._segment = self._segment, None
        if segment is not None:
            self._done = segment.id
            segment.close()

    def _statistics_before(self, segment: int) -> StreamStatistics:
        """Of the segments before one (or of the oldest that are remembered)."""
        for learnt, statistics in reversed(self._statistics):
            if learnt < segment:
                return statistics
        return self._statistics[0][1]


class _Segment:
    """One segment, its engine and the rows known so far."""

    def __init__(self, stream: StreamId, segment: int, config: ExtractConfig, engine: FeatureEngine) -> None:
        self.id = segment
        self._stream = stream
        self._engine = engine
        self._width = len(engine.lld_names)
        self._hop_rows = math.ceil(config.hop_ms / _ROW_MS)
        self._window_rows = math.ceil(config.window_s * 1_000 / _ROW_MS)
        self._next_due = math.ceil(config.first_window_ms / (self._hop_rows * _ROW_MS)) * self._hop_rows
        self._windows = 0
        self._functionals_every = config.functionals_every
        self._functionals = engine.window_functionals(self._window_rows)
        self._picture = RunningPicture(engine.lld_names, self._window_rows)

        self._waiting: list[Pcm] = []
        """Audio that the engine has not got yet."""
        self._waiting_samples = 0
        self._fed = 0
        """Samples that it has got."""
        self._energies: list[NDArray[np.float64]] = []
        """Sum of squares of each 10 ms that it has got and that no row stands for yet."""
        self._energy = 0.0
        """Sum of squares of all of it, a whole number."""
        self._rows: list[NDArray[np.float32]] = []
        """Rows that are known but in no record yet."""
        self._known_rows = 0
        self._sent_rows = 0
        self._lost: list[tuple[int, int]] = []
        """Spans of the segment's samples that never came."""
        self._portion = self._next_portion()
        """How much the engine gets next."""

    @property
    def heard_to(self) -> int:
        """Media time up to which audio has come."""
        return self.id + self._fed + self._waiting_samples

    def hear(self, pcm: Pcm, *, lost: bool = False) -> list[FeatureWindow]:
        """Take in audio; the engine gets it at points that depend on its amount only, so how it came leaves no trace.

        Args:
            pcm: the next samples.
            lost: they never came, and are silence.
        """
        if len(pcm):
            if lost:
                at = self._fed + self._waiting_samples
                self._lost.append((at, at + len(pcm)))
            self._waiting.append(pcm)
            self._waiting_samples += len(pcm)
        out: list[FeatureWindow] = []
        while self._portion <= self._waiting_samples:
            self._feed(self._portion)
            while self._known_rows >= self._next_due:
                out.append(self._window(self._next_due))
                self._next_due += self._hop_rows
            self._portion = self._next_portion()
        return out

    def _next_portion(self) -> int:
        """Samples until the next window may be known, in whole frames; at most a hop."""
        needed = self._next_due * HOP_SAMPLES + self._engine.delay - self._fed
        frames = math.ceil(min(needed, self._hop_rows * HOP_SAMPLES) / FRAME_SAMPLES)
        return max(1, frames) * FRAME_SAMPLES

    def finish(self, before: StreamStatistics) -> FeatureWindow:
        """The utterance. It carries the rows that only the end brought, and none of them makes a window due.

        Args:
            before: statistics of the stream's segments before this one.
        """
        if self._waiting_samples:
            self._feed(self._waiting_samples)
        rows, functionals = self._engine.finish()
        self._keep(rows)
        lld = self._take_rows(self._known_rows)
        heard = self._fed - self._lost_samples(0, self._fed)
        summary = self._picture.of_all(self._energy / heard if heard else 0.0)
        return replace(
            self._record(WindowKind.UTTERANCE, 0, self._fed, lld, functionals, summary),
            statistics=self._picture.add_to(before, summary, heard / RATE_HZ),
        )

    def close(self) -> None:
        self._engine.close()

    def _feed(self, samples: int) -> None:
        waiting = np.concatenate(self._waiting)
        pcm, rest = waiting[:samples], waiting[samples:]
        self._waiting = [rest]
        self._waiting_samples = len(rest)
        self._keep(self._engine.feed(pcm))
        self._fed += samples

        wide = pcm.astype(np.float64)
        of_rows = wide[: samples // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
        energies = np.einsum("ij,ij->i", of_rows, of_rows)
        self._energies.append(energies)
        self._energy += float(energies.sum())
        if left_over := wide[of_rows.size :].tolist():
            self._energy += sum(sample * sample for sample in left_over)

    def _keep(self, rows: NDArray[np.float32]) -> None:
        if len(rows):
            self._rows.append(rows)
            self._known_rows += len(rows)

    def _take_rows(self, end_row: int) -> NDArray[np.float32]:
        """The descriptors up to a row that no record has had yet; functionals and picture get to know them."""
        if end_row == self._sent_rows:
            return NO_FLOATS.reshape(0, self._width)
        known, energies = np.concatenate(self._rows), np.concatenate(self._energies)
        count = end_row - self._sent_rows
        rows = known[:count]
        self._rows, self._energies = [known[count:]], [energies[count:]]
        self._sent_rows = end_row
        self._functionals.append(rows)
        self._picture.append(rows, energies[:count])
        return np.ascontiguousarray(rows[:, : self._width])

    def _window(self, end_row: int) -> FeatureWindow:
        lld = self._take_rows(end_row)
        first_row = max(0, end_row - self._window_rows)
        start, end = first_row * HOP_SAMPLES, end_row * HOP_SAMPLES
        with_functionals = self._functionals_every and self._windows % self._functionals_every == 0
        self._windows += 1
        return self._record(
            WindowKind.WINDOW,
            start,
            end,
            lld,
            self._functionals.of(first_row, end_row) if with_functionals else NO_FLOATS,
            self._picture.of(first_row, end_row, end - start - self._lost_samples(start, end)),
        )

    def _lost_samples(self, start: int, end: int) -> int:
        """How many of the segment's samples from `start` to `end` never came."""
        if not self._lost:
            return 0
        return sum(max(0, min(end, lost_end) - max(start, lost)) for lost, lost_end in self._lost)

    def _record(
        self,
        kind: WindowKind,
        start: int,
        end: int,
        lld: NDArray[np.float32],
        functionals: NDArray[np.float32],
        summary: VoiceSummary,
    ) -> FeatureWindow:
        return FeatureWindow(
            stream=self._stream,
            segment=self.id,
            kind=kind,
            start=self.id + start,
            duration=end - start,
            coverage=1 - self._lost_samples(start, end) / (end - start) if end > start else 0.0,
            lookahead=self._fed - end,
            feature_set=self._engine.feature_set,
            lld_first=self._sent_rows - len(lld),
            lld=lld,
            functionals=functionals if np.isfinite(functionals).all() else NO_FLOATS,
            summary=summary,
        )
