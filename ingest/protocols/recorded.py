"""What a browser's MediaRecorder sends, chunk by chunk, as events: Opus in WebM or in Ogg."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from callscope.errors import BadAudio
from ingest.audio.opus import RATE_HZ, packet_samples
from ingest.protocols.block import Block
from ingest.protocols.events import Audio, Missing
from ingest.protocols.ogg import OggDemuxer
from ingest.protocols.webm import WebmDemuxer

RecordedEncoding: TypeAlias = Literal["webm-opus", "ogg-opus"]

HOLE_S: Final = 0.1
"""A block that stands so much later than the sound before it has a hole in front. Times in WebM are whole milliseconds,
and those of a browser follow its clock, so that small steps mean nothing."""
MAX_HOLE_S: Final = 24 * 3600.0


class RecordedOpus:
    """One recording as it grows.

    Args:
        encoding: the container.
    """

    def __init__(self, encoding: RecordedEncoding) -> None:
        self._demuxer = WebmDemuxer() if encoding == "webm-opus" else OggDemuxer()
        self._began_s: float | None = None
        self._samples = 0

    @property
    def incomplete_bytes(self) -> int:
        """Bytes that wait for the rest of what they belong to; more than 0 at the end means the recording was cut."""
        return self._demuxer.incomplete_bytes

    def push(self, data: bytes) -> list[Audio | Missing]:
        """The packets that `data` completes, one an event, and the holes that the container's times tell of.

        Raises:
            BadAudio: it is no recording of the kind that was announced, or a part of it is broken.
        """
        events: list[Audio | Missing] = []
        for block in self._demuxer.push(data):
            events += self._placed(block)
        return events

    def _placed(self, block: Block) -> list[Audio | Missing]:
        if block.is_header:
            return [Audio(block.data)]
        samples = packet_samples(block.data)
        hole = self._hole_before(block.at_s) if block.at_s is not None else 0
        self._samples += hole + samples
        audio = Audio(block.data)
        return [Missing(hole, "paused"), audio] if hole else [audio]

    def _hole_before(self, at_s: float) -> int:
        if self._began_s is None:
            self._began_s = at_s
        ahead_s = at_s - self._began_s - self._samples / RATE_HZ
        if ahead_s > MAX_HOLE_S:
            raise BadAudio(f"The recording jumps by {ahead_s:.0f} s, more than a day.")
        return round(ahead_s * RATE_HZ) if ahead_s > HOLE_S else 0
