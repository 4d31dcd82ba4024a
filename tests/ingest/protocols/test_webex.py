"""Webex' media forking, the core: pieces of any length in their places, by capture times that are not perfect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadAudio, BadHello, BadMessage, IngestError
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Ended, Event, Missing, Opened
from ingest.protocols.webex import MAX_LEGS, WebexStream, failed, succeeded
from schemas.webex.conversationaudioforking_pb2 import (
    AGENT,
    CALLER,
    ERROR_INVALID_AUDIO_FORMAT,
    ERROR_STREAM_FAILURE,
    LINEAR16,
    MULAW,
    AudioStream,
    ConversationAudioForkingRequest,
)

T0 = 1_790_000_000_000_000_000
MS = 1_000_000
MULAW_8K = AudioFormat("mulaw", 8_000, 1)


def piece(
    at_ms: float | None, data: bytes = b"\x01" * 160, role: int = CALLER, role_id: str = "a", **audio: object
) -> ConversationAudioForkingRequest:
    """20 ms of mu-law, captured so long after the call began."""
    fields = {"audio_data": data, "encoding": MULAW, "sample_rate_hertz": 8_000, "role": role, "role_id": role_id}
    stream = AudioStream(**(fields | audio))  # type: ignore[arg-type]  # some are wrong on purpose
    if at_ms is not None:
        stream.audio_timestamp.FromNanoseconds(T0 + int(at_ms * MS))
    return ConversationAudioForkingRequest(conversation_id="conv-1", customer_org_id="org", audio=stream)


def all_of(stream: WebexStream, *requests: ConversationAudioForkingRequest) -> list[Event]:
    return [event for request in requests for event in stream.receive(request) if not isinstance(event, Opened)]


def test_the_bytes_of_the_published_schema() -> None:
    """A request written byte by byte from the schema's numbers."""
    stamp = b"\x08\x05\x10\x07"
    audio = b"\x0a\x02\x7f\x80" + b"\x10\x02" + b"\x18\xc0\x3e" + b"\x22\x04" + stamp + b"\x28\x02" + b"\x32\x01r"
    data = b"\x0a\x01c" + b"\x12\x01o" + b"\x1a" + bytes([len(audio)]) + audio + b"\x22\x06\x0a\x01k\x12\x01v"
    request = ConversationAudioForkingRequest.FromString(data)
    assert request.additional_info == {"k": "v"}
    opened, heard = WebexStream().receive(request)
    metadata = {"customer_org_id": "o", "role_id": "r"}
    assert opened == Opened((StreamId("c", "agent"),), MULAW_8K, "webex", metadata)
    assert heard == Audio(b"\x7f\x80", "agent", 5_000_000_007)


def test_legs_by_role_and_id() -> None:
    stream = WebexStream()
    opened = [
        event.streams[0].leg
        for role, role_id in ((CALLER, "a"), (AGENT, "b"), (AGENT, "c"), (CALLER, "a"), (AGENT, "b"))
        for event in stream.receive(piece(0, role=role, role_id=role_id))
        if isinstance(event, Opened)
    ]
    assert opened == ["customer", "agent", "agent-2"]
    with pytest.raises(BadMessage, match="legs"):
        for number in range(MAX_LEGS):
            stream.receive(piece(0, role=AGENT, role_id=f"more {number}"))


def test_a_leg_that_joins_later_begins_with_the_time_before_it() -> None:
    stream = WebexStream()
    all_of(stream, piece(0))
    assert all_of(stream, piece(1_500, role=AGENT)) == [
        Missing(12_000, "lost", "agent"),
        Audio(b"\x01" * 160, "agent", T0 + 1_500 * MS),
    ]


def test_jitter_moves_nothing_and_a_hole_is_marked() -> None:
    stream = WebexStream()
    times = [0, 27, 38, 61, 79, 130, 119]
    assert not any(isinstance(event, Missing) for event in all_of(stream, *map(piece, times)))
    hole, audio = all_of(stream, piece(7 * 20 + 1_000))
    assert isinstance(hole, Missing) and abs(hole.samples - 8_000) < 16
    assert isinstance(audio, Audio)


def test_a_slow_clock_is_followed_without_a_hole() -> None:
    """100 parts in a million for an hour come to 360 ms, which a jump would be marked for."""
    stream = WebexStream()
    for number in range(36_000):
        for event in stream.receive(piece(number * 100 * 1.0001, b"\x01" * 800)):
            assert not isinstance(event, Missing)


def test_a_wall_clock_that_is_set_moves_nothing() -> None:
    stream = WebexStream()
    back = all_of(stream, piece(0), piece(20), piece(-30_000), piece(-29_980))
    forward = all_of(stream, piece(10 * 3_600_000), piece(10 * 3_600_000 + 20))
    assert [type(event) for event in back + forward] == [Audio] * 6


def test_without_capture_times_pieces_follow_one_another() -> None:
    assert all_of(WebexStream(), piece(None), piece(None)) == [Audio(b"\x01" * 160, "customer", 0)] * 2


def test_after_a_reconnect_what_had_come_is_dropped_once() -> None:
    stream = WebexStream()
    data = bytes(range(160))
    all_of(stream, piece(0, data), piece(20, data), piece(40, data))
    stream.reconnected()
    assert all_of(stream, piece(20, data)) == []
    assert all_of(stream, piece(50, data)) == [Audio(data[80:], "customer", T0 + 60 * MS)]
    assert all_of(stream, piece(70, data)) == [Audio(data, "customer", T0 + 70 * MS)]


def test_after_a_reconnect_what_is_missing_is_marked() -> None:
    stream = WebexStream()
    all_of(stream, piece(0))
    stream.reconnected()
    assert all_of(stream, piece(120))[0] == Missing(800, "lost", "customer")


@pytest.mark.parametrize("hours", [10, -10])
def test_a_wall_clock_that_was_set_before_a_reconnect_is_neither_a_hole_nor_a_repetition(hours: int) -> None:
    stream = WebexStream()
    all_of(stream, piece(0))
    stream.reconnected()
    assert [type(event) for event in all_of(stream, piece(hours * 3_600_000))] == [Audio]


def test_what_had_to_be_discarded_is_marked_as_such() -> None:
    stream = WebexStream()
    all_of(stream, piece(0))
    stream.shed(piece(20))
    stream.shed(piece(40))
    assert all_of(stream, piece(60))[0] == Missing(320, "discarded", "customer")
    assert all_of(stream, piece(80)) == [Audio(b"\x01" * 160, "customer", T0 + 80 * MS)]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (piece(0, encoding=0), BadAudio),
        (piece(0, sample_rate_hertz=48_000), BadAudio),
        (piece(0, encoding=LINEAR16, audio_data=b"123"), BadAudio),
        (piece(0, role=0), BadMessage),
        (ConversationAudioForkingRequest(), BadHello),
        (ConversationAudioForkingRequest(conversation_id="t~c"), BadHello),
    ],
)
def test_what_cannot_be_served(request_: ConversationAudioForkingRequest, error: type[IngestError]) -> None:
    with pytest.raises(error):
        WebexStream().receive(request_)


def test_a_conversation_does_not_change() -> None:
    stream = WebexStream()
    stream.receive(piece(0))
    with pytest.raises(BadAudio, match="changed"):
        stream.receive(piece(20, encoding=LINEAR16))
    with pytest.raises(BadMessage, match="conversation"):
        stream.receive(ConversationAudioForkingRequest(conversation_id="another"))
    impossible = piece(0)
    impossible.audio.audio_timestamp.nanos = 2_000_000_000
    with pytest.raises(BadMessage, match="audio_timestamp"):
        stream.receive(impossible)


def test_the_one_response() -> None:
    assert succeeded().status_message == "SUCCESS"
    assert failed(BadAudio("x")).error_code == ERROR_INVALID_AUDIO_FORMAT
    assert failed(BadMessage("x")).error_code == ERROR_STREAM_FAILURE
    with pytest.raises(BadHello):
        WebexStream().half_closed()
    stream = WebexStream()
    stream.receive(piece(0))
    assert stream.half_closed() == Ended()


@given(
    st.lists(st.integers(1, 700), min_size=1, max_size=30),
    st.lists(st.integers(1, 700), min_size=1, max_size=30),
    st.integers(0, 4_000),
    st.randoms(use_true_random=False),
)
def test_any_cuts_and_any_interleaving_of_the_legs_give_the_same(
    caller: list[int], agent: list[int], later: int, random: object
) -> None:
    """Each leg's audio and place, however its samples are cut into pieces and the legs' pieces interleave."""
    sound = np.random.default_rng(1).integers(0, 256, 30_000, dtype=np.uint8).tobytes()
    waiting = {
        "customer": [(CALLER, at, size) for at, size in zip(np.cumsum([0, *caller]), caller, strict=False)],
        "agent": [(AGENT, at, size) for at, size in zip(np.cumsum([0, *agent]), agent, strict=False)],
    }
    stream = WebexStream()
    stream.receive(piece(0, b"\x01", role=CALLER, role_id="first"))
    heard: dict[str, bytes] = {}
    missing: dict[str, int] = {}
    while any(waiting.values()):
        leg = random.choice([leg for leg, pieces in waiting.items() if pieces])  # type: ignore[attr-defined]
        role, at, size = waiting[leg].pop(0)
        for event in stream.receive(piece((later + at) / 8, sound[at : at + size], role=role, role_id=leg)):
            match event:
                case Audio(data, str(name)):
                    heard[name] = heard.get(name, b"") + data
                case Missing(samples, _, str(name)):
                    missing[name] = missing.get(name, 0) + samples
    assert heard == {"customer-2": sound[: sum(caller)], "agent": sound[: sum(agent)]}
    assert missing == ({"customer-2": later, "agent": later} if later else {})


requests = st.builds(
    ConversationAudioForkingRequest,
    conversation_id=st.sampled_from(["c", "c", "c", "d", "", "/"]),
    customer_org_id=st.text(max_size=5),
    audio=st.none()
    | st.builds(
        AudioStream,
        audio_data=st.binary(max_size=20),
        encoding=st.integers(0, 4),
        sample_rate_hertz=st.sampled_from([8_000, 8_000, 16_000, -1]),
        role=st.integers(0, 3),
        role_id=st.text(max_size=2),
    ),
)


@given(st.lists(st.tuples(requests, st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1)), max_size=10))
def test_whatever_comes_gives_events_or_an_error_of_ours(
    sent: list[tuple[ConversationAudioForkingRequest, int, int]],
) -> None:
    stream = WebexStream()
    opened: set[str] = set()
    try:
        for request, seconds, nanos in sent:
            if request.HasField("audio"):
                request.audio.audio_timestamp.seconds, request.audio.audio_timestamp.nanos = seconds, nanos
            for event in stream.receive(request):
                if isinstance(event, Opened):
                    opened |= {stream_.leg for stream_ in event.streams}
                else:
                    assert isinstance(event, Audio | Missing) and event.leg in opened
                    assert not isinstance(event, Missing) or event.samples > 0
            stream.shed(request)
    except IngestError as error:
        assert str(error)
