"""WebM as browsers' MediaRecorder writes it, without a file: bytes of any cut in, blocks of Opus out.

Matroska (RFC 9559) in EBML (RFC 8794) is elements: an id, a size, and data or further elements. Elements that hold
others are entered by reading on behind their header, so that nothing has to be nested here; of the others, those below
are read and the rest is passed over. Sizes may be unknown for segments and clusters, which end with the next one: live
recordings have no other kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callscope.errors import BadAudio
from ingest.protocols.block import Block

# Elements that hold others; RFC 9559 section 5.1, RFC 8794 section 11.2.
_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_INFO: Final = 0x1549A966
_TRACKS: Final = 0x1654AE6B
_TRACK_ENTRY: Final = 0xAE
_CLUSTER: Final = 0x1F43B675
_BLOCK_GROUP: Final = 0xA0
_ENTERED: Final = frozenset({_EBML, _SEGMENT, _INFO, _TRACKS, _TRACK_ENTRY, _CLUSTER, _BLOCK_GROUP})
_MAY_BE_UNKNOWN: Final = frozenset({_SEGMENT, _CLUSTER})
# Elements that are read.
_DOC_TYPE: Final = 0x4282
_TIMESTAMP_SCALE: Final = 0x2AD7B1
_TRACK_NUMBER: Final = 0xD7
_CODEC_ID: Final = 0x86
_CODEC_PRIVATE: Final = 0x63A2
_CLUSTER_TIMESTAMP: Final = 0xE7
_BLOCK: Final = 0xA1
_SIMPLE_BLOCK: Final = 0xA3
_READ: Final = frozenset(
    {
        _DOC_TYPE,
        _TIMESTAMP_SCALE,
        _TRACK_NUMBER,
        _CODEC_ID,
        _CODEC_PRIVATE,
        _CLUSTER_TIMESTAMP,
        _BLOCK,
        _SIMPLE_BLOCK,
    }
)

MAX_ELEMENT_BYTES: Final = 64 * 1024
"""The longest element that is read, and so the most that waits for its rest."""
MAX_PASSED_BYTES: Final = 1 << 20
"""The longest element that is passed over."""
_UNKNOWN: Final = -1
_LACING: Final = 0x06
_DOC_TYPES: Final = (b"webm", b"matroska")


class WebmDemuxer:
    """One recording. Its first track of Opus is read, others are passed over."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._passing = 0
        self._began = False
        self._doc_type = b""
        self._scale_ns = 1_000_000  # RFC 9559 section 5.1.2.9
        self._cluster = 0
        self._entry = _Track()
        self._opus: _Track | None = None  # the first track of Opus
        self._track: _Track | None = None  # the same, once sound begins

    @property
    def incomplete_bytes(self) -> int:
        """Bytes that wait for the rest of their element."""
        return len(self._buffer)

    def push(self, data: bytes) -> list[Block]:
        """The blocks that `data` completes.

        Raises:
            BadAudio: it is not WebM, has no Opus where sound begins, or what it has cannot be read.
        """
        passed = min(self._passing, len(data))
        self._passing -= passed
        self._buffer += memoryview(data)[passed:]
        blocks: list[Block] = []
        at = 0
        while (header := self._header(at)) is not None:
            element, size, body = header
            if element in _ENTERED:
                blocks += self._enter(element)
                at = body
            elif element in _READ:
                if len(self._buffer) < body + size:
                    break
                blocks += self._read(element, bytes(self._buffer[body : body + size]))
                at = body + size
            else:
                at = min(body + size, len(self._buffer))
                self._passing = body + size - at
        del self._buffer[:at]
        return blocks

    def _header(self, at: int) -> tuple[int, int, int] | None:
        """The element at `at`: id, size, where its data begins; None until all of that has come."""
        identity = _number(self._buffer, at, 4, keep_marker=True)
        if identity is None:
            return None
        element, behind = identity
        if not self._began and element != _EBML:
            raise BadAudio("This is not WebM: it does not begin with an EBML header.")
        self._began = True
        number = _number(self._buffer, behind, 8, keep_marker=False)
        if number is None:
            return None
        size, body = number
        if size == _UNKNOWN:
            if element not in _MAY_BE_UNKNOWN:
                raise BadAudio(
                    f"The size of WebM element 0x{element:X} is unknown; only a segment's or a cluster's may."
                )
        elif element not in _ENTERED and size > (MAX_ELEMENT_BYTES if element in _READ else MAX_PASSED_BYTES):
            raise BadAudio(f"WebM element 0x{element:X} has {size} bytes, more than a recording of speech needs.")
        return element, size, body

    def _enter(self, element: int) -> list[Block]:
        """An element of elements begins; the codec's header is given when the first cluster does."""
        if element == _TRACK_ENTRY:
            self._entry = _Track()
        if element != _CLUSTER or self._track is not None:
            return []
        if self._doc_type not in _DOC_TYPES:
            raise BadAudio(f"This is not WebM: its type is {self._doc_type[:32]!r}.")
        if self._opus is None:
            raise BadAudio('The recording has no track of Opus. Record with mimeType "audio/webm;codecs=opus".')
        self._track = self._opus
        return [Block(self._track.private, is_header=True)] if self._track.private else []

    def _read(self, element: int, data: bytes) -> list[Block]:
        if element in (_BLOCK, _SIMPLE_BLOCK):
            return self._block(data)
        if element == _DOC_TYPE:
            self._doc_type = data.rstrip(b"\0")
        elif element == _TIMESTAMP_SCALE:
            self._scale_ns = int.from_bytes(data, "big")
        elif element == _TRACK_NUMBER:
            self._entry.number = int.from_bytes(data, "big")
        elif element == _CODEC_ID:
            if data.rstrip(b"\0") == b"A_OPUS" and self._opus is None:
                self._opus = self._entry
        elif element == _CODEC_PRIVATE:
            self._entry.private = data
        else:
            self._cluster = int.from_bytes(data, "big")
        return []

    def _block(self, data: bytes) -> list[Block]:
        """Track number, time relative to the cluster, flags, packet; RFC 9559 section 10.1."""
        if self._track is None:
            raise BadAudio("A WebM block comes before the tracks are described.")
        track = _number(data, 0, 8, keep_marker=False)
        if track is None or len(data) < track[1] + 3:
            raise BadAudio("A WebM block is shorter than its header.")
        number, at = track
        if number != self._track.number:
            return []
        if data[at + 2] & _LACING:
            raise BadAudio("A WebM block holds several packets (lacing), which recordings of speech do not need.")
        relative = int.from_bytes(data[at : at + 2], "big", signed=True)
        return [Block(data[at + 3 :], (self._cluster + relative) * self._scale_ns / 1e9)]


@dataclass(slots=True)
class _Track:
    number: int = 0
    private: bytes = b""


def _number(data: bytes | bytearray, at: int, longest: int, *, keep_marker: bool) -> tuple[int, int] | None:
    """A number whose first byte's leading zeros tell its length (RFC 8794 section 4), and where it ends.

    Args:
        data: where it stands.
        at: where it begins.
        longest: how many bytes it may have.
        keep_marker: ids keep the bit that ends the zeros, sizes do not; a size of all ones is `_UNKNOWN`.

    Returns:
        None where not all of it has come.
    """
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > longest:
        raise BadAudio("The recording is not WebM here: a number is longer than numbers are.")
    if len(data) < at + length:
        return None
    value = int.from_bytes(data[at : at + length], "big")
    if not keep_marker:
        ones = (1 << 7 * length) - 1
        value &= ones
        if value == ones:
            value = _UNKNOWN
    return value, at + length
