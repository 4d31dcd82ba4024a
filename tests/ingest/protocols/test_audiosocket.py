from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadAudio, BadHello, BadMessage, IngestError, SourceFailed, Unauthorized
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.audiosocket import RATES_HZ, Admission, AudioSocketProtocol, packet
from ingest.protocols.events import Audio, Ended, Event, Marked, Opened
from tests.ingest.protocols.cutting import pieces

CALL = UUID("40325ec2-5efd-4bd3-805f-53576e581d13")
STREAM = StreamId("call-1", "customer")
NAMED = bytes.fromhex("010010") + CALL.bytes
AUDIO_8K = bytes.fromhex("100140") + bytes(range(160)) * 2
"""As Asterisk sends it: kind 0x10, length 320."""


def admit(uuid: UUID) -> Admission:
    if uuid != CALL:
        raise Unauthorized("That UUID is not registered.")
    return Admission(STREAM, {"queue": "billing"})


def received(*data: bytes) -> tuple[list[Event], IngestError | None]:
    """All events of a connection, audio joined, and the error that ended it."""
    protocol = AudioSocketProtocol(admit)
    events: list[Event] = []
    try:
        for piece in data:
            for event in protocol.receive(piece):
                if isinstance(event, Audio) and events and isinstance(events[-1], Audio):
                    events[-1] = Audio(events[-1].data + event.data)
                else:
                    events.append(event)
    except IngestError as error:
        return events, error
    return events, None


OPENED = Opened((STREAM,), AudioFormat("s16le", 8_000, 1), "audiosocket", {"queue": "billing"})


def test_a_call() -> None:
    events, error = received(NAMED, AUDIO_8K, AUDIO_8K, packet(0x03, b"5"), AUDIO_8K, packet(0x00))
    samples = AUDIO_8K[3:]
    assert error is None
    assert events == [OPENED, Audio(samples * 2), Marked("dtmf"), Audio(samples), Ended()]


def test_the_digit_is_kept_nowhere() -> None:
    protocol = AudioSocketProtocol(admit)
    events = list(protocol.receive(NAMED + AUDIO_8K + packet(0x03, b"7")))
    assert "7" not in repr(events[-1])


@pytest.mark.parametrize(("kind", "rate_hz"), RATES_HZ.items())
def test_every_kind_of_audio_has_its_rate(kind: int, rate_hz: int) -> None:
    events, _ = received(NAMED, packet(kind, bytes(640)))
    assert isinstance(events[0], Opened)
    assert events[0].audio_format == AudioFormat("s16le", rate_hz, 1)


def test_any_length_of_audio_is_taken() -> None:
    events, error = received(NAMED, packet(0x10), packet(0x10, b"x"), packet(0x10, b"y" * 0xFFFF))
    assert error is None
    assert events == [OPENED, Audio(b"x" + b"y" * 0xFFFF)]


def test_no_stream_opens_without_audio() -> None:
    assert received(NAMED, packet(0x03, b"5"), packet(0x00)) == ([Ended()], None)
    assert received(packet(0x00)) == ([Ended()], None)


def test_what_comes_after_the_end_is_passed_over() -> None:
    assert received(NAMED, AUDIO_8K, packet(0x00), b"\x77" * 9)[1] is None


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (AUDIO_8K, BadHello, "must name the call"),
        (packet(0x03, b"1"), BadHello, "must name the call"),
        (packet(0x01, bytes(15)), BadHello, "15 bytes"),
        (packet(0x01, bytes(17)), BadHello, "17 bytes"),
        (b"GET / HTTP/1.1\r\n", BadHello, "0x47"),
        (NAMED + NAMED, BadMessage, "second UUID"),
        (NAMED + packet(0x02), BadMessage, "0x02"),
        (NAMED + packet(0x19, bytes(2)), BadMessage, "0x19"),
        (NAMED + packet(0x03, b"12"), BadMessage, "1 byte"),
        (NAMED + packet(0x03), BadMessage, "1 byte"),
        (NAMED + AUDIO_8K + packet(0x12, bytes(640)), BadAudio, "8000 to 16000"),
        (NAMED + packet(0xFF, b"\x02"), SourceFailed, "code 02"),
        (packet(0xFF), SourceFailed, "reported an error"),
        (packet(0x01, bytes(16)), Unauthorized, "not registered"),
    ],
)
def test_what_cannot_be_taken_is_told_why(data: bytes, kind: type[IngestError], says: str) -> None:
    _, error = received(data)
    assert type(error) is kind
    assert says in str(error)


def test_a_stranger_cannot_make_us_wait_for_a_long_first_packet() -> None:
    _, error = received(b"\x10\xff\xff")
    assert isinstance(error, BadHello), "the header is enough to tell"


def test_audio_before_an_error_is_not_lost() -> None:
    events, error = received(NAMED + AUDIO_8K + packet(0x55))
    assert isinstance(error, BadMessage)
    assert events == [OPENED, Audio(AUDIO_8K[3:])]


def test_silence_and_hanging_up() -> None:
    protocol = AudioSocketProtocol(admit)
    assert protocol.silence() == b"\x10\x01\x40" + bytes(320)
    list(protocol.receive(NAMED + packet(0x12, bytes(640))))
    assert protocol.silence() == b"\x12\x02\x80" + bytes(640), "in the rate of the channel"
    assert protocol.hang_up() == b"\x00\x00\x00"


PACKETS = st.lists(
    st.one_of(
        st.binary(max_size=400).map(lambda payload: packet(0x10, payload)),
        st.binary(max_size=2).map(lambda payload: packet(0x03, payload)),
        st.tuples(st.integers(0, 255), st.binary(max_size=20)).map(lambda both: packet(*both)),
    ),
    max_size=8,
).map(b"".join)


@given(st.data(), PACKETS | st.binary(max_size=100))
def test_any_cutting_gives_the_same_events_and_the_same_error(data: st.DataObject, rest: bytes) -> None:
    whole, error = received(NAMED + rest)
    cut, cut_error = received(*data.draw(pieces(NAMED + rest)))
    assert (whole, type(error), str(error)) == (cut, type(cut_error), str(cut_error))


@given(st.binary(max_size=300))
def test_any_garbage_gives_events_or_an_error_of_ours(garbage: bytes) -> None:
    received(garbage)
    received(NAMED, garbage)
