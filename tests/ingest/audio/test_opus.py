from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadAudio
from ingest.audio.opus import OpusDecoder, packet_samples, quiet
from tests.ingest.opus import decoded, encoded, recorded, snr_db, voice


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (bytes([0 << 3]), 480),  # SILK narrowband 10 ms
        (bytes([3 << 3, 1]), 2_880),  # SILK 60 ms
        (bytes([15 << 3, 1]), 960),  # hybrid 20 ms
        (bytes([28 << 3, 1]), 120),  # CELT 2.5 ms
        (bytes([31 << 3 | 1, 1, 2]), 1_920),  # two frames of one size
        (bytes([31 << 3 | 2, 1, 7, 7, 7]), 1_920),  # two frames, the first of one byte
        (bytes([31 << 3 | 3, 6, *range(12)]), 5_760),  # six frames, constant bit rate
        (bytes([31 << 3 | 3, 0x80 | 2, 1, 5, 6, 7]), 1_920),  # two frames, variable bit rate
        (bytes([31 << 3 | 3, 0x40 | 1, 2, 5, 0, 0]), 960),  # padded
    ],
)
def test_a_packet_tells_how_long_it_is(packet: bytes, samples: int) -> None:
    assert packet_samples(packet) == samples


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes([31 << 3]) + bytes(1_276),  # R2: a frame of 1276 bytes
        bytes([31 << 3 | 1, 1]),  # R3: two frames in one byte
        bytes([31 << 3 | 2]),  # R4: no length
        bytes([31 << 3 | 2, 9, 1]),  # R4: longer than the packet
        bytes([31 << 3 | 3]),  # R5: no count
        bytes([31 << 3 | 3, 0]),  # R5: no frames
        bytes([31 << 3 | 3, 7, *range(14)]),  # R5: 140 ms
        bytes([31 << 3 | 3, 2, 1, 2, 3]),  # R6: three bytes for two frames
        bytes([31 << 3 | 3, 0x40 | 1, 255]),  # R6: padding without end
        bytes([31 << 3 | 3, 0x80 | 3, 200, 1]),  # R7: lengths beyond the packet
        bytes(8_001),
    ],
)
def test_a_malformed_packet_is_refused(packet: bytes) -> None:
    with pytest.raises(BadAudio):
        packet_samples(packet)


@given(st.binary(max_size=64))
def test_what_is_let_through_decodes_to_the_length_that_was_told(packet: bytes) -> None:
    try:
        samples = packet_samples(packet)
    except BadAudio:
        return
    if packet.startswith(b"OpusHead"):
        return
    try:
        assert len(OpusDecoder().push(packet)) == samples
    except BadAudio as error:  # inside a frame libopus may still find nonsense
        assert "decoded" in str(error)


def test_quiet_is_as_long_as_asked_but_for_less_than_the_shortest_packet() -> None:
    for samples in (0, 119, 120, 960, 19_200, 48_000 + 7):
        assert sum(map(packet_samples, quiet(samples))) == samples - samples % 120


def test_sound_survives_and_quiet_is_silent() -> None:
    pcm = voice(2.0)
    decoder = OpusDecoder()
    heard = np.concatenate([decoder.push(packet) for packet in encoded(pcm)])
    assert len(heard) == len(pcm)
    middle = slice(4_800, 90_000)
    assert snr_db(pcm[middle], heard[312:][middle]) > 15  # libopus' look-ahead is 6.5 ms
    silence = np.concatenate([decoder.push(packet) for packet in quiet(48_000)])
    assert len(silence) == 48_000 and np.abs(silence[960:].astype(int)).max() <= 1


def test_the_header_cuts_the_beginning_as_ffmpeg_does() -> None:
    import io

    import av

    recording = recorded(voice(1.0), "ogg")
    with av.open(io.BytesIO(recording), "r") as file:
        packets = [bytes(packet) for packet in file.demux(audio=0)]
        head = file.streams.audio[0].codec_context.extradata
    assert head is not None
    decoder = OpusDecoder()
    heard = np.concatenate([decoder.push(packet) for packet in (head, *packets) if packet])
    reference = decoded(recording)
    assert snr_db(reference, heard[: len(reference)]) > 60


def test_more_than_two_channels_are_refused() -> None:
    with pytest.raises(BadAudio, match="3 channel"):
        OpusDecoder().push(b"OpusHead\x01\x03" + bytes(8) + b"\x01")


def test_pyav_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, ingest.app, ingest.audio.opus; sys.exit('av' in sys.modules or 'aiortc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
