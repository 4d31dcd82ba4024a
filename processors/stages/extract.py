"""Computes features inside each speech segment: descriptors as they come, a sliding window, the whole utterance.

Row k of the low-level descriptors stands for the segment's samples from k * 10 ms on. A window is due when the number
of known rows reaches a multiple of the hop; it spans the last `window_s` before the end of its newest row. The engine
knows a row only some time after the audio (the pitch window, the smoothing of pitch), and `lookahead` says how long:
`start + duration + lookahead` is the end of the audio a record depends on.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from callscope.config import Extract as ExtractConfig
from processors.records import (
    FRAME_SAMPLES,
    NO_FLOATS,
    FeatureWindow,
    Pcm,
    SpeechFrame,
    StreamId,
    VoiceSummary,
    WindowKind,
)
from processors.stages.engine import HOP_SAMPLES, EngineFactory, FeatureEngine

_ROW_MS = 10

_SUMMARISED = (
    "Loudness_sma3",
    "F0semitoneFrom27.5Hz_sma3nz",
    "alphaRatio_sma3",
    "hammarbergIndex_sma3",
)
"""Descriptors a `VoiceSummary` is made of; the pitch is 0 in unvoiced frames."""
_LOUDNESS, _PITCH, _ALPHA_RATIO, _HAMMARBERG = range(4)


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
        out += self._segment.hear(record.pcm[heard:])
        if record.last:
            out += self.flush()
        return out

    def flush(self) -> list[FeatureWindow]:
        """End an open segment here.

        Raises:
            FeatureEngineError: the engine failed; `drop` the segment.
        """
        if self._segment is None:
            return []
        out = self._segment.finish()
        self.drop()
        return out

    def drop(self) -> None:
        """Give up an open segment without results."""
        segment, self._segment = self._segment, None
        if segment is not None:
            self._done = segment.id
            segment.close()


class _Segment:
    """One segment, its engine and the rows known so far."""

    def __init__(self, stream: StreamId, segment: int, config: ExtractConfig, engine: FeatureEngine) -> None:
        self.id = segment
        self._stream = stream
        self._engine = engine
        self._columns = [engine.lld_names.index(name) for name in _SUMMARISED]
        self._hop_rows = math.ceil(config.hop_ms / _ROW_MS)
        self._window_rows = math.ceil(config.window_s * 1_000 / _ROW_MS)
        self._next_due = math.ceil(config.first_window_ms / (self._hop_rows * _ROW_MS)) * self._hop_rows
        self._rows = np.zeros((512, len(engine.lld_names)), np.float32)
        self._row_count = 0
        self._sent_rows = 0
        self._fed_to = segment
        self._rest = np.zeros(0, np.int16)

    @property
    def heard_to(self) -> int:
        """Media time up to which audio has come."""
        return self._fed_to + len(self._rest)

    def hear(self, pcm: Pcm) -> list[FeatureWindow]:
        """Feed whole 20 ms frames, one at a time, so that no trace is left of how the audio came."""
        pcm = np.concatenate((self._rest, pcm)) if len(self._rest) else pcm
        whole = len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES
        out: list[FeatureWindow] = []
        for at in range(0, whole, FRAME_SAMPLES):
            self._feed(pcm[at : at + FRAME_SAMPLES])
            while self._row_count >= self._next_due:
                out.append(self._window(self._next_due))
                self._next_due += self._hop_rows
        self._rest = pcm[whole:].copy()
        return out

    def finish(self) -> list[FeatureWindow]:
        """The utterance. It carries the rows that only the end brought, and none of them makes a window due."""
        if len(self._rest):
            self._feed(self._rest)
            self._rest = self._rest[:0]
        rows, functionals = self._engine.finish()
        self._append(rows)
        return [
            self._record(
                WindowKind.UTTERANCE,
                first_row=0,
                end_row=self._row_count,
                end=self._fed_to,
                functionals=functionals if np.isfinite(functionals).all() else NO_FLOATS,
            )
        ]

    def close(self) -> None:
        self._engine.close()

    def _feed(self, pcm: Pcm) -> None:
        self._append(self._engine.feed(pcm))
        self._fed_to += len(pcm)

    def _append(self, rows: NDArray[np.float32]) -> None:
        end = self._row_count + len(rows)
        if end > len(self._rows):
            grown = np.zeros((max(end, 2 * len(self._rows)), self._rows.shape[1]), np.float32)
            grown[: self._row_count] = self._rows[: self._row_count]
            self._rows = grown
        self._rows[self._row_count : end] = rows
        self._row_count = end

    def _window(self, end_row: int) -> FeatureWindow:
        return self._record(
            WindowKind.WINDOW,
            first_row=max(0, end_row - self._window_rows),
            end_row=end_row,
            end=self.id + end_row * HOP_SAMPLES,
            functionals=NO_FLOATS,
        )

    def _record(
        self, kind: WindowKind, *, first_row: int, end_row: int, end: int, functionals: NDArray[np.float32]
    ) -> FeatureWindow:
        start = self.id + first_row * HOP_SAMPLES
        new_rows = self._rows[self._sent_rows : end_row].copy()
        window = FeatureWindow(
            stream=self._stream,
            segment=self.id,
            kind=kind,
            start=start,
            duration=end - start,
            coverage=1.0,
            lookahead=self._fed_to - end,
            feature_set=self._engine.feature_set,
            lld_first=self._sent_rows,
            lld=new_rows,
            functionals=functionals,
            summary=summarise(self._rows[first_row:end_row, self._columns]),
        )
        self._sent_rows = end_row
        return window


def summarise(rows: NDArray[np.float32]) -> VoiceSummary:
    """The running picture over some rows.

    Args:
        rows: loudness, pitch, alpha ratio and Hammarberg index, shape (n, 4); a pitch of 0 marks an unvoiced row.
    """
    if not len(rows):
        return VoiceSummary(0.0, None, None, 0.0, None, None)
    wide = rows.astype(np.float64)
    loudness = float(wide[:, _LOUDNESS].sum()) / len(wide)
    voiced = wide[wide[:, _PITCH] > 0]
    if not len(voiced):
        return VoiceSummary(0.0, None, None, loudness, None, None)
    mean = voiced.sum(axis=0) / len(voiced)
    deviation = voiced[:, _PITCH] - mean[_PITCH]
    return VoiceSummary(
        voiced_share=len(voiced) / len(wide),
        f0_mean=float(mean[_PITCH]),
        f0_stddev=math.sqrt(float((deviation * deviation).sum()) / len(voiced)),
        loudness_mean=loudness,
        alpha_ratio_mean=float(mean[_ALPHA_RATIO]),
        hammarberg_mean=float(mean[_HAMMARBERG]),
    )
