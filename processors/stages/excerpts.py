"""Cuts a stream's speech into the excerpts that a model of the waveform hears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callscope.streams import StreamId
from processors.records import Pcm, SpeechFrame


@dataclass(frozen=True, slots=True, eq=False)
class Excerpt:
    """The last seconds of a segment.

    Attributes:
        stream: whose speech it is.
        segment: the segment's id.
        start: media time of `pcm[0]`.
        pcm: the samples; fewer than asked for only where the segment ended before there were enough.
        is_final: the segment has ended with it.
        lost: whether silence stands in for samples that never came.
    """

    stream: StreamId
    segment: int
    start: int
    pcm: Pcm
    is_final: bool
    lost: bool = False


class Excerpts:
    """Of one stream, for one model: the last `length` samples of the segment, every `hop` samples and at its end.

    How the audio was cut into records leaves no trace. A segment whose beginning or middle is missing gives none; audio
    that comes again is passed over.

    Args:
        length: samples of an excerpt.
        hop: samples from one to the next.
    """

    def __init__(self, length: int, hop: int) -> None:
        self._length = length
        self._hop = hop
        self._segment: int | None = None
        self._done = -1
        self._pcm: Pcm = np.zeros(0, np.int16)
        self._start = 0
        self._due = 0
        self._lost: list[tuple[int, int]] = []
        """Where silence stands in for lost audio: start and end of each hole that still matters."""

    def step(self, frame: SpeechFrame) -> list[Excerpt]:
        """Take in speech; returns the excerpts that became due."""
        if frame.segment <= self._done:
            return []
        if frame.segment != self._segment:
            if frame.start != frame.segment:
                return []
            self._segment, self._start, self._due = frame.segment, frame.segment, frame.segment + self._length
            self._pcm, self._lost = frame.pcm[:0], []
        heard = self._start + len(self._pcm) - frame.start
        if heard < 0:
            self._segment, self._done = None, frame.segment
            return []
        self._pcm = np.concatenate((self._pcm, frame.pcm[heard:]))
        end = self._start + len(self._pcm)
        if frame.lost and len(frame.pcm) > heard:
            self._lost.append((frame.start + heard, end))
        out = []
        while self._due <= end:
            out.append(self._excerpt(frame, self._due, is_final=False))
            self._due += self._hop
        if frame.last:
            out.append(self._excerpt(frame, end, is_final=True))
            self._segment, self._done = None, frame.segment
        spare = max(0, end - self._length - self._start)  # no excerpt to come begins before that
        self._pcm, self._start = self._pcm[spare:].copy(), self._start + spare
        self._lost = [hole for hole in self._lost if hole[1] > self._start]
        return out

    def _excerpt(self, frame: SpeechFrame, end: int, *, is_final: bool) -> Excerpt:
        start = max(self._start, end - self._length)
        pcm = self._pcm[start - self._start : end - self._start].copy()
        lost = any(hole_start < end and hole_end > start for hole_start, hole_end in self._lost)
        return Excerpt(frame.stream, frame.segment, start, pcm, is_final, lost)
