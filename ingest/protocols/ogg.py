"""Ogg/Opus (RFC 3533, RFC 7845) without a file: bytes of any cut in, packets of Opus out."""

from __future__ import annotations

from typing import Final

from callscope.errors import BadAudio
from ingest.protocols.block import Block

_CAPTURE: Final = b"OggS"
_HEADER_BYTES: Final = 27
_CONTINUED: Final = 0x01
_HEAD: Final = b"OpusHead"
_TAGS: Final = b"OpusTags"
MAX_PACKET_BYTES: Final = 64 * 1024
"""The longest packet, tags included."""


class OggDemuxer:
    """One recording of one stream of Opus; chained and multiplexed recordings are refused."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._packet = bytearray()
        self._serial: bytes | None = None
        self._packets = 0
        self._page = 0

    @property
    def incomplete_bytes(self) -> int:
        """Bytes that wait for the rest of their page or packet."""
        return len(self._buffer) + len(self._packet)

    def push(self, data: bytes) -> list[Block]:
        """The packets that `data` completes: first the codec's header, then sound.

        Raises:
            BadAudio: it is not Ogg, not Opus, or pages are missing.
        """
        self._buffer += data
        packets: list[Block] = []
        at = 0
        while (end := self._page_end(at)) is not None:
            packets += self._read_page(at, end)
            at = end
        del self._buffer[:at]
        return packets

    def _page_end(self, at: int) -> int | None:
        buffer = self._buffer
        if not _CAPTURE.startswith(bytes(buffer[at : at + 4])):
            raise BadAudio("The recording is not Ogg here: no page begins where one should.")
        if len(buffer) < at + _HEADER_BYTES:
            return None
        lacing = at + _HEADER_BYTES
        segments = buffer[lacing - 1]
        end = lacing + segments + sum(buffer[lacing : lacing + segments])
        return end if len(buffer) >= lacing + segments and len(buffer) >= end else None

    def _read_page(self, at: int, end: int) -> list[Block]:
        """A page: version, flags, position, serial number, page number, checksum, lacing values; RFC 3533 section 6."""
        buffer = self._buffer
        serial, number = bytes(buffer[at + 14 : at + 18]), int.from_bytes(buffer[at + 18 : at + 22], "little")
        if self._serial is None:
            self._serial = serial
        if serial != self._serial or buffer[at + 4] != 0:
            raise BadAudio("The recording holds more than one Ogg stream. Send one recording of one microphone.")
        if number != self._page or bool(buffer[at + 5] & _CONTINUED) != bool(self._packet):
            raise BadAudio(f"Ogg page {self._page} is missing: page {number} came, or one that continues no packet.")
        self._page += 1
        lacing = at + _HEADER_BYTES
        body = lacing + buffer[lacing - 1]
        packets: list[Block] = []
        for length in buffer[lacing:body]:
            self._packet += buffer[body : body + length]
            body += length
            if len(self._packet) > MAX_PACKET_BYTES:
                raise BadAudio(f"An Ogg packet has more than {MAX_PACKET_BYTES} bytes, too many for speech.")
            if length < 255:
                packets += self._sound(bytes(self._packet))
                self._packet.clear()
        assert body == end, "the lacing values add up to the page"
        return packets

    def _sound(self, packet: bytes) -> list[Block]:
        self._packets += 1
        if self._packets == 1 and not packet.startswith(_HEAD):
            raise BadAudio("The Ogg recording is not Opus: it does not begin with OpusHead.")
        if self._packets == 2 and not packet.startswith(_TAGS):
            raise BadAudio("The Ogg recording is not Opus: OpusTags are missing.")
        return [Block(packet, is_header=self._packets == 1)] if self._packets != 2 else []
