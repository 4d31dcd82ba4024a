"""Opus packets: how long they are, from their first bytes, and what they sound like, by libopus through PyAV.

PyAV is imported when the first decoder is made: a gateway that hears no Opus does not pay for it.
Packets are parsed here before the decoder sees them, by the rules R1 to R7 of RFC 6716 section 3.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from callscope.errors import BadAudio

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

RATE_HZ: Final = 48_000
"""The clock of Opus, whatever the bandwidth of a packet; RFC 7587 section 4.1 for RTP."""
MAX_PACKET_BYTES: Final = 8_000
"""The longest packet that is taken: 120 ms in six frames of the longest kind, RFC 6716 rule R2, fit."""
_MAX_PACKET_SAMPLES: Final = RATE_HZ * 120 // 1_000
_MAX_FRAME_BYTES: Final = 1_275
_SILK_SAMPLES: Final = (480, 960, 1_920, 2_880)
_HYBRID_SAMPLES: Final = (480, 960)
_CELT_SAMPLES: Final = (120, 240, 480, 960)
_QUIET_TOC: Final = {960: 31 << 3, 480: 30 << 3, 240: 29 << 3, 120: 28 << 3}

_HEAD: Final = b"OpusHead"
_HEAD_BYTES: Final = 19


def packet_samples(packet: bytes) -> int:
    """How long a packet sounds, samples at 48 kHz, 120 to 5760.

    Raises:
        BadAudio: it breaks a rule of RFC 6716 section 3.4.
    """
    if not 1 <= len(packet) <= MAX_PACKET_BYTES:
        raise BadAudio(f"An Opus packet has 1 to {MAX_PACKET_BYTES} bytes; this one has {len(packet)}.")
    frame = _frame_samples(packet[0] >> 3)
    match packet[0] & 0x03:
        case 0:
            count, sound = 1, len(packet) - 1 <= _MAX_FRAME_BYTES
        case 1:
            count, sound = 2, len(packet) % 2 == 1 and len(packet) // 2 <= _MAX_FRAME_BYTES
        case 2:
            count, sound = 2, _has_two_frames(packet)
        case _:
            count = packet[1] & 0x3F if len(packet) > 1 else 0
            sound = count > 0 and count * frame <= _MAX_PACKET_SAMPLES and _has_frames(packet, count)
    if not sound:
        raise BadAudio("An Opus packet is malformed: its frames do not fit its length (RFC 6716 section 3.4).")
    return count * frame


def quiet(samples: int) -> list[bytes]:
    """Packets of silence, for a time in which the sender sent nothing because it heard nothing.

    They are frames of CELT whose first bit says that they are silent (RFC 6716 section 4.3). The decoder's own filling
    for such times would be louder than silence where its estimate of the background is.

    Args:
        samples: at 48 kHz; a remainder below 2.5 ms is left out.
    """
    packets: list[bytes] = []
    for length, toc in _QUIET_TOC.items():
        count, samples = divmod(samples, length)
        packets += [bytes((toc, 0xFF, 0xFE))] * count
    return packets


class OpusDecoder:
    """One stream's packets to mono samples at 48 kHz. Stereo packets are mixed down, by libopus.

    The first packet may be an identification header (RFC 7845 section 5.1, the "CodecPrivate" of Matroska): it says how
    many samples at the beginning are none of the sound, and a gain.
    """

    def __init__(self) -> None:
        self._codec = _codec(b"")
        self._began = False
        self._skip = 0

    def push(self, packet: bytes) -> NDArray[np.int16]:
        """The samples of a packet, shape (n,), at 48 kHz; n is 0 for the header.

        Raises:
            BadAudio: it is no Opus packet, or the header is one of more than two channels.
        """
        from av import Packet
        from av.error import FFmpegError

        if not self._began:
            self._began = True
            if packet.startswith(_HEAD):
                self._identify(packet)
                return np.zeros(0, np.int16)
        packet_samples(packet)
        try:
            frames = self._codec.decode(Packet(packet))
        except FFmpegError as error:
            raise BadAudio(f"An Opus packet cannot be decoded: {error}.") from error
        samples: NDArray[np.int16] = np.concatenate([np.zeros(0, np.int16), *(f.to_ndarray()[0] for f in frames)])
        if self._skip:
            skipped = min(self._skip, len(samples))
            self._skip -= skipped
            samples = samples[skipped:]
        return samples

    def _identify(self, head: bytes) -> None:
        channels, family = (head[9], head[18]) if len(head) >= _HEAD_BYTES else (0, 0)
        if channels not in (1, 2) or family != 0:
            raise BadAudio(
                f"The Opus header announces {channels} channel(s) in mapping family {family}. One or two channels in "
                "family 0 are taken (RFC 7845 section 5.1)."
            )
        self._skip = int.from_bytes(head[10:12], "little")
        self._codec = _codec(head)


def _codec(head: bytes) -> AudioCodecContext:
    from av import CodecContext

    codec: AudioCodecContext = CodecContext.create("libopus", "r")
    codec.format = "s16"
    codec.layout = "mono"
    codec.sample_rate = RATE_HZ
    if head:
        # The gain is libopus' affair. The samples to skip are counted here, where they can be seen.
        codec.extradata = head[:9] + b"\x01\x00\x00" + head[12:_HEAD_BYTES]
    return codec


def load() -> None:
    """Import PyAV now; takes a tenth of a second the first time."""
    import av  # noqa: F401  # for its effect


def _frame_samples(config: int) -> int:
    if config < 12:
        return _SILK_SAMPLES[config % 4]
    if config < 16:
        return _HYBRID_SAMPLES[config % 2]
    return _CELT_SAMPLES[config % 4]


def _length(packet: bytes, at: int) -> tuple[int, int]:
    """A frame's length as RFC 6716 section 3.2.1 writes it, and where it ends; (-1, at) where the packet is over."""
    if at >= len(packet):
        return -1, at
    if packet[at] < 252:
        return packet[at], at + 1
    if at + 1 >= len(packet):
        return -1, at
    return packet[at + 1] * 4 + packet[at], at + 2


def _has_two_frames(packet: bytes) -> bool:
    first, at = _length(packet, 1)
    return 0 <= first <= len(packet) - at and len(packet) - at - first <= _MAX_FRAME_BYTES


def _has_frames(packet: bytes, count: int) -> bool:
    """Whether `count` frames fit, code 3: padding first, then lengths (of all but the last) or one length for all."""
    is_vbr, is_padded = packet[1] & 0x80, packet[1] & 0x40
    at, padding = 2, 0
    while is_padded:
        if at >= len(packet):
            return False
        value = packet[at]
        at += 1
        padding += min(value, 254)
        if value < 255:
            break
    end = len(packet) - padding
    if not is_vbr:
        return at <= end and (end - at) % count == 0 and (end - at) // count <= _MAX_FRAME_BYTES
    total = 0
    for _ in range(count - 1):
        length, at = _length(packet[:end] if end > 0 else b"", at)
        if length < 0:
            return False
        total += length
    return at + total <= end and end - at - total <= _MAX_FRAME_BYTES
