"""Asterisk's AudioSocket without the socket: bytes in, events out.

Asterisk opens a TCP connection and sends packets: one byte kind, two bytes length (big-endian), payload. A connection
carries the audio of one channel. Facts: Asterisk's documentation, "AudioSocket", and its `res_audiosocket.h`.

State by kind of packet; a cell names the event that comes out and the next state, or the error::

                0x01 UUID      audio             0x03 DTMF   0x00 hang up   0xff error     other
    NAMELESS    SILENT         BadHello          BadHello    Ended, DONE    SourceFailed   BadHello
    SILENT      BadMessage     Opened, Audio,    SILENT      Ended, DONE    SourceFailed   BadMessage
                               AUDIO
    AUDIO       BadMessage     Audio, AUDIO      Marked,     Ended, DONE    SourceFailed   BadMessage
                                                 AUDIO
    DONE        DONE           DONE              DONE        DONE           DONE           DONE

The stream opens with the first audio, because only its kind says the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Final
from uuid import UUID

from callscope.errors import BadAudio, BadHello, BadMessage, SourceFailed
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Ended, Event, Marked, Opened

SOURCE: Final = "audiosocket"
HANG_UP: Final = 0x00
UUID_: Final = 0x01
DTMF: Final = 0x03
ERROR: Final = 0xFF
RATES_HZ: Final[Mapping[int, int]] = MappingProxyType(
    {
        0x10: 8_000,
        0x11: 12_000,
        0x12: 16_000,
        0x13: 24_000,
        0x14: 32_000,
        0x15: 44_100,
        0x16: 48_000,
        0x17: 96_000,
        0x18: 192_000,
    }
)
"""Sampling rate of each kind of audio packet; its samples are signed, 16 bits, little-endian, mono."""
PAYLOAD_BYTES: Final = 0xFFFF
"""The longest payload: what two bytes of length can say, so no more is ever kept of an unfinished packet."""
_HEADER_BYTES: Final = 3
_UUID_BYTES: Final = 16
_SILENCE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Admission:
    """Whose audio a connection carries.

    Attributes:
        stream: the stream.
        metadata: what is known of the call.
    """

    stream: StreamId
    metadata: Mapping[str, str] = field(default_factory=dict)


class _State(Enum):
    NAMELESS = auto()
    SILENT = auto()
    AUDIO = auto()
    DONE = auto()


class AudioSocketProtocol:
    """One connection's state. The events do not depend on how the bytes were cut into pieces.

    Args:
        admit: called once with the UUID that the connection names; says whose audio it is, or raises an IngestError.
    """

    def __init__(self, admit: Callable[[UUID], Admission]) -> None:
        self._admit = admit
        self._state = _State.NAMELESS
        self._buffer = bytearray()
        self._admission: Admission | None = None
        self._kind = 0x10

    @property
    def is_named(self) -> bool:
        """Whether the UUID has come and was admitted."""
        return self._admission is not None

    @property
    def is_between_packets(self) -> bool:
        """Whether all that came are whole packets, so that a closed connection is an end as it should be."""
        return not self._buffer

    def receive(self, data: bytes) -> Iterator[Event]:
        """The events of some bytes, one after the other; to be run to its end.

        Yields:
            What the completed packets mean. An error comes where it belongs, after the events before it.

        Raises:
            BadHello: the first packet names no UUID.
            BadMessage: a packet of the wrong kind at this point, or of an impossible length.
            BadAudio: the rate changes within the stream.
            SourceFailed: Asterisk reports an error.
            IngestError: what `admit` raises.
        """
        self._buffer += data
        while packet := self._packet():
            yield from self._events(*packet)

    def silence(self) -> bytes:
        """A packet of 20 ms of silence, which keeps Asterisk's dialplan application from giving up; inaudible."""
        return packet(self._kind, bytes(2 * round(RATES_HZ[self._kind] * _SILENCE_S)))

    def hang_up(self) -> bytes:
        """The packet that ends the connection, and makes the dialplan go on or the channel hang up."""
        return packet(HANG_UP)

    def _packet(self) -> tuple[int, bytes] | None:
        """The next whole packet, taken out of the buffer; checked by its header while it is still unfinished."""
        if self._state is _State.DONE:
            self._buffer.clear()
        if len(self._buffer) < _HEADER_BYTES:
            return None
        kind, length = self._buffer[0], int.from_bytes(self._buffer[1:_HEADER_BYTES])
        self._check(kind, length)
        end = _HEADER_BYTES + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_HEADER_BYTES:end])
        del self._buffer[:end]
        return kind, payload

    def _check(self, kind: int, length: int) -> None:
        if self._state is _State.NAMELESS:
            if kind not in (UUID_, HANG_UP, ERROR) or (kind == UUID_ and length != _UUID_BYTES):
                raise BadHello(
                    f"The first AudioSocket packet must name the call: kind 0x01 with 16 bytes of UUID. Kind "
                    f"{kind:#04x} with {length} bytes came."
                )
        elif kind == UUID_:
            raise BadMessage("A second UUID came. A connection carries one channel; open another for another.")
        elif kind not in RATES_HZ and kind not in (HANG_UP, DTMF, ERROR):
            raise BadMessage(f"AudioSocket has no packets of kind {kind:#04x}.")
        elif kind == DTMF and length != 1:
            raise BadMessage(f"A DTMF packet has 1 byte, and {length} are announced.")

    def _events(self, kind: int, payload: bytes) -> Iterator[Event]:
        match kind:
            case _ if kind == HANG_UP:
                self._state = _State.DONE
                yield Ended()
            case _ if kind == ERROR:
                self._state = _State.DONE
                code = f", code {payload[:8].hex()}" if payload else ""
                raise SourceFailed(f"Asterisk reported an error{code}. Its log says more.")
            case _ if kind == UUID_:
                self._admission = self._admit(UUID(bytes=payload))
                self._state = _State.SILENT
            case _ if kind == DTMF:
                if self._state is _State.AUDIO:
                    yield Marked("dtmf")
            case _:
                yield from self._audio(kind, payload)

    def _audio(self, kind: int, payload: bytes) -> Iterator[Event]:
        assert self._admission is not None
        if self._state is _State.SILENT:
            self._state, self._kind = _State.AUDIO, kind
            yield Opened(
                (self._admission.stream,),
                AudioFormat("s16le", RATES_HZ[kind], 1),
                SOURCE,
                self._admission.metadata,
            )
        elif kind != self._kind:
            raise BadAudio(
                f"The rate changes from {RATES_HZ[self._kind]} to {RATES_HZ[kind]} Hz within the stream. "
                "Open another connection for it."
            )
        if payload:
            yield Audio(payload)


def packet(kind: int, payload: bytes = b"") -> bytes:
    """A packet as it goes over the wire.

    Args:
        kind: 0 to 255.
        payload: at most 65,535 bytes.
    """
    return bytes((kind,)) + len(payload).to_bytes(2) + payload
