"""WebM and Ogg with Opus: against FFmpeg's own reading of the same bytes, at any cuts, and against garbage."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Literal

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadAudio, BadHello
from ingest.audio.framing import AudioFormat
from ingest.audio.opus import OpusDecoder
from ingest.protocols.events import Audio, Missing, Opened
from ingest.protocols.recorded import RecordedEncoding, RecordedOpus
from ingest.protocols.websocket import WebSocketProtocol
from tests.ingest.opus import RATE_HZ, decoded, recorded, snr_db, voice

BOTH = pytest.mark.parametrize("container", ["webm", "ogg"])
Container = Literal["webm", "ogg"]


def encoding(container: Container) -> RecordedEncoding:
    return "webm-opus" if container == "webm" else "ogg-opus"


@cache
def recording(container: Container) -> bytes:
    """1.5 s; WebM with clusters of 300 ms as live recordings have them, sizes unknown."""
    return recorded(
        voice(1.5), container, **({"live": "1", "cluster_time_limit": "300"} if container == "webm" else {})
    )


def packets_by_ffmpeg(container: Container) -> list[bytes]:
    with av.open(io.BytesIO(recording(container)), "r") as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]


def events(container: Container, chunks: list[bytes]) -> list[Audio | Missing]:
    reading = RecordedOpus(encoding(container))
    return [event for chunk in chunks for event in reading.push(chunk)]


@BOTH
def test_the_packets_are_those_that_ffmpeg_finds(container: Container) -> None:
    head, *packets = events(container, [recording(container)])
    assert isinstance(head, Audio) and head.data.startswith(b"OpusHead")
    assert packets == [Audio(packet) for packet in packets_by_ffmpeg(container)]
    assert len(packets) >= 75


@BOTH
def test_the_sound_is_that_which_ffmpeg_hears(container: Container) -> None:
    decoder = OpusDecoder()
    packets = [event.data for event in events(container, [recording(container)]) if isinstance(event, Audio)]
    heard = np.concatenate([decoder.push(packet) for packet in packets])
    reference = decoded(recording(container))
    assert snr_db(reference, heard[: len(reference)]) > 60
    assert 0 <= len(heard) - len(reference) < 960


@given(container=st.sampled_from(("webm", "ogg")), data=st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(container: Container, data: st.DataObject) -> None:
    whole = recording(container)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=40)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert events(container, chunks) == events(container, [whole])


def test_byte_by_byte() -> None:
    for container in ("webm", "ogg"):
        whole = recording(container)
        single = events(container, [whole[i : i + 1] for i in range(len(whole))])
        assert single == events(container, [whole])


def test_a_jump_in_the_times_of_webm_is_a_hole() -> None:
    """The same blocks, with two seconds added to the cluster times from the third cluster on."""
    whole = bytearray(recording("webm"))
    cluster, at, seen = bytes.fromhex("1F43B675"), 0, 0
    while (at := whole.find(cluster, at)) >= 0:
        seen += 1
        stamp = whole.index(0xE7, at + 5)
        length = whole[stamp + 1] & 0x7F
        if seen > 2:
            value = int.from_bytes(whole[stamp + 2 : stamp + 2 + length], "big") + 2_000
            whole[stamp + 2 : stamp + 2 + length] = value.to_bytes(length, "big")
        at += 5
    assert seen > 3
    holes = [event for event in events("webm", [bytes(whole)]) if isinstance(event, Missing)]
    assert len(holes) == 1 and holes[0].reason == "paused"
    assert holes[0].samples == pytest.approx(2 * RATE_HZ, abs=960)


@pytest.mark.parametrize(
    ("encoding", "data", "says"),
    [
        ("webm-opus", b"RIFF....WAVE", "not WebM"),
        ("webm-opus", b"OggS" + bytes(30), "not WebM"),
        ("webm-opus", bytes.fromhex("1A45DFA3 FF"), "size"),
        ("webm-opus", bytes.fromhex("1A45DFA3 84 4282 81 78 1F43B675 FF"), "type"),
        ("webm-opus", bytes.fromhex("1A45DFA3 87 4282 84 7765626D 1F43B675 FF"), "no track of Opus"),
        ("webm-opus", bytes.fromhex("1A45DFA3 87 4282 84 7765626D A3 81 00"), "before the tracks"),
        ("webm-opus", bytes.fromhex("1A45DFA3 87 4282 84 7765626D EC 10FFFFFF"), "more than"),
        ("webm-opus", bytes.fromhex("1A45DFA3 80 00"), "longer than numbers"),
        ("ogg-opus", b"RIFF....WAVE", "not Ogg"),
        ("ogg-opus", b"OggS\0\2" + bytes(20) + b"\1\4vorb", "not Opus"),
    ],
)
def test_what_is_no_such_recording_is_refused(encoding: RecordedEncoding, data: bytes, says: str) -> None:
    with pytest.raises(BadAudio, match=says):
        RecordedOpus(encoding).push(data)


def test_a_missing_ogg_page_is_noticed() -> None:
    whole = recorded(voice(3.0), "ogg", page_duration="500000")
    pages = whole.split(b"OggS")[1:]
    cut = b"".join(b"OggS" + page for index, page in enumerate(pages) if index != 3)
    with pytest.raises(BadAudio, match="missing"):
        RecordedOpus("ogg-opus").push(cut)


@given(
    container=st.sampled_from(("webm", "ogg")),
    where=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), min_size=1, max_size=8),
    garbage=st.binary(max_size=64),
)
def test_garbage_is_refused_or_read_and_never_anything_else(
    container: Container, where: list[tuple[int, int]], garbage: bytes
) -> None:
    damaged = bytearray(recording(container))
    for at, value in where:
        damaged[at % len(damaged)] = value
    for data in (bytes(damaged), garbage, recording(container)[:200] + garbage):
        reading = RecordedOpus(encoding(container))
        try:
            for start in range(0, len(data), 500):
                reading.push(data[start : start + 500])
                assert reading.incomplete_bytes < 200_000
        except BadAudio:
            pass


def hello(**changes: object) -> str:
    said = {"type": "hello", "call_id": "c", "leg": "a", "encoding": "webm-opus", "rate_hz": 48_000}
    return json.dumps(said | changes)


def test_chunks_of_a_recording_follow_the_hello_and_the_end_must_be_whole() -> None:
    protocol = WebSocketProtocol()
    (opened,) = protocol.receive(hello())
    assert isinstance(opened, Opened) and opened.audio_format == AudioFormat("opus", RATE_HZ, 1)
    whole = recording("webm")
    assert protocol.receive(whole) == events("webm", [whole])
    protocol.receive(b"\xa3\x90")  # the beginning of another block
    with pytest.raises(BadAudio, match="ends inside a packet"):
        protocol.receive('{"type":"end"}')


@pytest.mark.parametrize(
    "changes",
    [
        {"rate_hz": 16_000},
        {"channels": 2, "leg": None, "legs": ["a", "b"]},
        {"resumable": True},
        {"encoding": "opus"},
    ],
)
def test_a_hello_that_no_recording_can_follow_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadHello):
        WebSocketProtocol().receive(hello(**changes))
