"""Hearing a stream's audio again, up to where it was decided, to know what `Detect` knew there."""

from __future__ import annotations

from collections import deque

import numpy as np

from processors.records import Pcm
from processors.stages.detectors import Birth, Detector
from processors.stages.marks import DetectMark

_NO_PCM: Pcm = np.zeros(0, np.int16)


class Rebuilding:
    """On the way to a mark.

    The detector hears again what its memory comes of, and nobody asks what it says. Audio of the open segment, and what
    may belong to the next one, is kept.

    Attributes:
        mark: where it leads.
        now: media time up to which audio was heard again.
        held: the audio kept, one hop an item.

    Args:
        mark: fits the detector.
        detector: is made as fresh as it was then.
    """

    def __init__(self, mark: DetectMark, detector: Detector) -> None:
        self.mark = mark
        self.now = mark.audio_from
        self.held: deque[Pcm] = deque()
        self._detector = detector
        age = (mark.decided_to - mark.detector_from) // mark.hop
        self._birth = Birth(age, mark.primed, mark.floor_dbfs)
        if not mark.primed:
            detector.begin(self._birth, _NO_PCM)

    @property
    def complete(self) -> bool:
        """Whether all was heard: what follows is to be decided."""
        return self.now == self.mark.decided_to

    def pass_over(self, pcm: Pcm) -> Pcm:
        """Hear what came before the detector's memory.

        Args:
            pcm: what follows, whole hops.

        Returns:
            What of it the detector is to judge again.
        """
        hop = self.mark.hop
        unjudged = min(len(pcm), max(0, self.mark.detector_from - self.now))
        for at in range(0, unjudged, hop):
            audio = pcm[at : at + hop]
            if self.mark.primed and self.now + hop == self.mark.detector_from:
                self._detector.begin(self._birth, audio)
            self.hear(audio)
        return pcm[unjudged:]

    def hear(self, audio: Pcm) -> None:
        """Hear a hop that the detector has judged again, or was not to."""
        if self.now >= self.mark.since:
            self.held.append(audio)
        self.now += self.mark.hop
