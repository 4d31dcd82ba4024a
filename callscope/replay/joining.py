"""Records of audio put together before they are analysed: half the work of a short record is not its audio. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from callscope.streams import StreamId
from processors.records import AudioFrame, Envelope


class Joining:
    """The same audio in fewer records, where that can make no difference.

    What a stage finds does not depend on how its audio was cut. How audio that came twice, late or not at all is dealt
    with may be counted in records: of a stream of which one did not come in its turn, none is joined any more.
    """

    def __init__(self) -> None:
        self._due: dict[StreamId, tuple[int, int] | None] = {}
        """Of each stream: media time and number of the record whose turn it is; None: it got out of turn."""

    def __call__(self, frames: Sequence[Envelope]) -> list[Envelope]:
        """Join what there is.

        Args:
            frames: of any streams, each stream's as they came.

        Returns:
            Each stream's audio as it came. The ledger of each record is that of its newest audio.
        """
        runs: list[list[Envelope]] = []
        open_runs: dict[StreamId, list[Envelope]] = {}
        for frame in frames:
            record = frame.record
            assert isinstance(record, AudioFrame)
            run = open_runs.pop(record.stream, None)
            if not self._goes_on(record):
                runs.append([frame])
                continue
            if run is None:
                run = []
                runs.append(run)
            run.append(frame)
            if not record.last:
                open_runs[record.stream] = run
        return [run[0] if len(run) == 1 else _one(run) for run in runs]

    def forget(self, stream: StreamId) -> None:
        """It is over."""
        self._due.pop(stream, None)

    def _goes_on(self, record: AudioFrame) -> bool:
        """Whether a record follows without a hole on one that was in its turn. The first of a stream stands alone."""
        stream, end = record.stream, record.start + len(record.pcm)
        if stream not in self._due:
            self._due[stream] = end, record.seq + 1
            return False
        due = self._due[stream]
        if due != (record.start - record.gap_before, record.seq):
            self._due[stream] = None
            return False
        self._due[stream] = end, record.seq + 1
        return not record.gap_before


def _one(run: Sequence[Envelope]) -> Envelope:
    records = [frame.record for frame in run if isinstance(frame.record, AudioFrame)]
    pcm = np.concatenate([record.pcm for record in records])
    return replace(run[-1], record=replace(records[-1], start=records[0].start, pcm=pcm))
