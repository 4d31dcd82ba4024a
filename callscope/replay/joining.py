"""Records of audio put together before they are analysed: half the work of a short record is not its audio. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from callscope.streams import StreamId
from processors.records import AudioFrame, Envelope


def joined(frames: Sequence[Envelope]) -> list[Envelope]:
    """The same audio in fewer records: each takes in those of its stream that go on where it ends.

    What a stage finds does not depend on how its audio was cut. A record that begins elsewhere, be it for a hole or
    because it came twice, stays one of its own.

    Args:
        frames: of any streams, each stream's in order.

    Returns:
        Each stream's audio in its order; the ledger of each is that of its newest audio.
    """
    runs: list[list[Envelope]] = []
    newest: dict[StreamId, int] = {}
    for frame in frames:
        record = frame.record
        at = newest.get(record.stream)
        if at is not None and _goes_on(runs[at][-1].record, record):
            runs[at].append(frame)
        else:
            newest[record.stream] = len(runs)
            runs.append([frame])
    return [run[0] if len(run) == 1 else _one(run) for run in runs]


def _goes_on(before: object, after: object) -> bool:
    assert isinstance(before, AudioFrame)
    assert isinstance(after, AudioFrame)
    return after.start == before.start + len(before.pcm) and not before.last


def _one(run: Sequence[Envelope]) -> Envelope:
    records = [frame.record for frame in run if isinstance(frame.record, AudioFrame)]
    pcm = np.concatenate([record.pcm for record in records])
    return Envelope(replace(records[0], pcm=pcm, last=records[-1].last), run[-1].ledger)
