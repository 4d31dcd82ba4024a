"""StreamAnalysis' core: any cuts give the same audio, and what is not understood is refused with its error."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadHello, BadMessage, IngestError
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Consented, Ended, Missing, Opened
from ingest.protocols.grpc_stream import MAX_MISSING_S, GrpcStream
from schemas.v1.analysis_pb2 import AudioChunk, ConsentGiven, StreamStart

BOTH = StreamStart(call_id="c-1", legs=["customer", "agent"], encoding=StreamStart.MULAW, rate_hz=8_000)
APART = StreamStart(call_id="c-1", legs=["customer", "agent"], encoding=StreamStart.S16LE, rate_hz=16_000, channels=1)


def started(start: StreamStart = BOTH) -> GrpcStream:
    stream = GrpcStream()
    stream.receive(AudioChunk(start=start))
    return stream


def test_two_interleaved_legs_are_one_source() -> None:
    stream = GrpcStream()
    (opened,) = stream.receive(AudioChunk(start=BOTH))
    legs = (StreamId("c-1", "customer"), StreamId("c-1", "agent"))
    assert opened == Opened(legs, AudioFormat("mulaw", 8_000, 2), "grpc", {})
    assert stream.receive(AudioChunk(audio=b"12", capture_ns=7)) == [Audio(b"12", None, 7)]
    assert stream.receive(AudioChunk(audio=b"12", missing_before=4)) == [Missing(4, "lost"), Audio(b"12")]
    assert stream.half_closed() == Ended()


def test_two_legs_apart_are_two_sources() -> None:
    stream = GrpcStream()
    opened = stream.receive(AudioChunk(start=APART))
    assert [source.streams for source in opened if isinstance(source, Opened)] == [
        (StreamId("c-1", "customer"),),
        (StreamId("c-1", "agent"),),
    ]
    assert stream.receive(AudioChunk(leg="agent", missing_before=3)) == [Missing(3, "lost", "agent")]
    for leg in ("", "nobody"):
        with pytest.raises(BadMessage, match="is of leg"):
            stream.receive(AudioChunk(audio=b"12", leg=leg))


def test_a_hole_has_a_longest_length() -> None:
    stream = started(APART)
    longest = MAX_MISSING_S * 16_000
    assert stream.receive(AudioChunk(leg="agent", missing_before=longest)) == [Missing(longest, "lost", "agent")]
    with pytest.raises(BadMessage, match="missing before it"):
        stream.receive(AudioChunk(leg="agent", missing_before=longest + 1))


def test_consent() -> None:
    stream = started()
    given_ = ConsentGiven(leg="agent", analyse=True, purposes=["health"])
    assert stream.receive(AudioChunk(consent=given_)) == [Consented("agent", True, ("health",))]
    with pytest.raises(BadMessage, match="purposes"):
        stream.receive(AudioChunk(consent=ConsentGiven(purposes=["Not a purpose"])))


def test_nothing_at_all() -> None:
    with pytest.raises(BadHello):
        GrpcStream().half_closed()


def test_acknowledgements_are_sent_when_they_are_news() -> None:
    stream = started()
    times = {StreamId("c-1", "customer"): 320, StreamId("c-1", "agent"): 0}
    assert stream.published({s: 0 for s in times}) is None
    answer = stream.published(times)
    assert answer is not None
    assert [(leg.leg, leg.at) for leg in answer.published.legs] == [("customer", 320), ("agent", 0)]
    assert stream.published(times) is None


@given(st.binary(max_size=2_000), st.lists(st.integers(0, 2_000), max_size=20))
def test_any_cuts_give_the_same_audio(data: bytes, cuts: list[int]) -> None:
    stream = started()
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    out = b""
    for begin, end in itertools.pairwise(places):
        chunk = AudioChunk(audio=data[begin:end])
        for event in stream.receive(chunk):
            assert isinstance(event, Audio)
            out += event.data
    assert out == data


chunks = st.builds(
    AudioChunk,
    audio=st.binary(max_size=10),
    leg=st.sampled_from(["", "customer", "agent", "x"]),
    missing_before=st.integers(0, 2**64 - 1),
    capture_ns=st.integers(-(2**63), 2**63 - 1),
)
starts = st.builds(
    StreamStart,
    call_id=st.sampled_from(["c", "c/d", "", "t~c"]) | st.text(max_size=10),
    legs=st.lists(st.sampled_from(["customer", "agent", ""]) | st.text(max_size=5), max_size=3),
    encoding=st.integers(0, 5),
    rate_hz=st.sampled_from([8_000, 16_000]) | st.integers(0, 2**32 - 1),
    channels=st.integers(0, 3),
    metadata=st.dictionaries(st.text(max_size=70), st.text(max_size=260), max_size=3),
)
messages = chunks | starts.map(lambda start: AudioChunk(start=start)) | st.just(AudioChunk(start=APART))
messages |= st.builds(ConsentGiven, leg=st.text(max_size=4), purposes=st.lists(st.text(max_size=4), max_size=3)).map(
    lambda consent: AudioChunk(consent=consent)
)


@given(st.lists(messages, max_size=12))
def test_whatever_comes_gives_events_or_an_error_of_ours(sent: list[AudioChunk]) -> None:
    stream = GrpcStream()
    opened = False
    try:
        for message in sent:
            for event in stream.receive(message):
                assert isinstance(event, Opened) or opened
                opened |= isinstance(event, Opened)
        stream.half_closed()
    except IngestError as error:
        assert str(error)
