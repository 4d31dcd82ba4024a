from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadOffer
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Missing
from ingest.protocols.webrtc import RtpTrack, check_offer, read_fragment, read_query

TRACK = """m=audio 42786 UDP/TLS/RTP/SAVPF 111 0
c=IN IP4 192.0.2.2
a=candidate:746668531 1 udp 2122194687 192.0.2.2 42786 typ host generation 0
a=ice-ufrag:H0EE
a=ice-pwd:zasUCWpUp2ZCcIrVejNO75OB
a=fingerprint:sha-256 0E:CE:78:18
a=setup:actpass
a=mid:0
a=sendonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtpmap:0 PCMU/8000
"""
HEAD = "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE 0 1\n"
ONE = HEAD + TRACK
TWO = ONE + TRACK.replace("a=mid:0", "a=mid:1")
PACKET = bytes([31 << 3, 1, 2])  # 20 ms


def test_the_address_names_call_legs_and_metadata() -> None:
    opened = read_query([("call_id", "c-1"), ("legs", "customer,agent"), ("metadata.queue", "bills"), ("token", "x")])
    assert [one.streams for one in opened] == [(StreamId("c-1", "customer"),), (StreamId("c-1", "agent"),)]
    assert all(one.audio_format == AudioFormat("opus", 48_000, 1) for one in opened)
    assert all(one.source == "webrtc" and one.metadata == {"queue": "bills"} for one in opened)


@pytest.mark.parametrize(
    "query",
    [
        [],
        [("call_id", "c")],
        [("leg", "agent")],
        [("call_id", "c"), ("leg", "a"), ("legs", "a,b")],
        [("call_id", "c"), ("leg", "a"), ("leg", "b")],
        [("call_id", "c/d"), ("leg", "a")],
        [("call_id", "c"), ("leg", "")],
        [("call_id", "c"), ("legs", "a,a")],
        [("call_id", "c"), ("legs", "a,b,c")],
        [("call_id", "c"), ("leg", "a"), ("speed", "2")],
        [("call_id", "c"), ("leg", "a"), ("metadata.x", "y" * 257)],
        [("call_id", "c"), ("leg", "a"), *((f"metadata.{n}", "") for n in range(33))],
    ],
)
def test_an_address_that_cannot_be_served_is_refused(query: list[tuple[str, str]]) -> None:
    with pytest.raises(BadOffer):
        read_query(query)


def test_offers_of_one_and_two_tracks_are_taken() -> None:
    check_offer(ONE, 1)
    check_offer(TWO.replace("\n", "\r\n"), 2)


@pytest.mark.parametrize(
    ("sdp", "legs"),
    [
        ("", 1),
        ("hello", 1),
        (HEAD, 1),
        (ONE, 2),
        (TWO, 1),
        (ONE.replace("m=audio", "m=video"), 1),
        (ONE + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\n", 1),
        (ONE.replace("opus/48000", "G729/8000"), 1),
        (ONE.replace("a=sendonly", "a=recvonly"), 1),
        (ONE.replace("a=sendonly", "a=inactive"), 1),
        (ONE.replace("a=fingerprint", "a=nothing"), 1),
        (ONE.replace("a=ice-pwd", "a=nothing"), 1),
        (ONE.replace("a=mid:0", ""), 1),
        (TWO.replace("a=group:BUNDLE 0 1\n", ""), 2),
        (ONE + "a=candidate:1 1 udp 1 192.0.2.2 1 typ host\n" * 64, 1),
        (ONE + "a=x\n" * 20_000, 1),
    ],
)
def test_offers_that_cannot_be_answered_are_refused(sdp: str, legs: int) -> None:
    with pytest.raises(BadOffer):
        check_offer(sdp, legs)


def test_a_fragment_gives_its_candidates_and_the_end() -> None:
    fragment = read_fragment(
        "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
        "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n"
        "a=candidate:3471623853 1 udp 2122194687 abc-def.local 61765 typ host\r\na=end-of-candidates\r\n"
    )
    assert fragment.username == "EsAw" and fragment.is_end
    assert [mid for mid, _ in fragment.candidates] == ["0", "0"]
    assert fragment.candidates[1][1] == "3471623853 1 udp 2122194687 abc-def.local 61765 typ host"


@pytest.mark.parametrize(
    "text",
    ["a=candidate:nonsense", "a=candidate:1 1 udp 1 192.0.2.2 1 typ host\n" * 65, "a=x\n" * 20_000],
)
def test_fragments_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadOffer):
        read_fragment(text)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_read_or_refused(head: str, tail: str) -> None:
    for text in (head, ONE[:-40] + tail, head + ONE, "a=candidate:" + tail):
        for read in (lambda one: check_offer(one, 1), read_fragment):
            try:
                read(text)
            except BadOffer as error:
                assert str(error)


def test_packets_become_audio_and_what_is_lost_becomes_missing() -> None:
    track = RtpTrack("agent", 0.06)
    events = track.receive(65_535, 2**32 - 960, PACKET, 0.0)
    events += track.receive(1, 960, PACKET, 0.04)  # 0 is lost
    assert events == [Audio(PACKET, "agent")] and track.due_s == pytest.approx(0.1)
    assert track.release(0.1) == [Missing(960, "lost", "agent"), Audio(PACKET, "agent")]


def test_what_is_no_opus_is_counted_and_becomes_missing() -> None:
    track = RtpTrack("agent", 0.06)
    track.receive(0, 0, PACKET, 0.0)
    assert track.receive(1, 960, b"", 0.02) == [] and track.malformed == 1
    track.receive(2, 1_920, PACKET, 0.04)
    assert track.flush() == [Missing(960, "lost", "agent"), Audio(PACKET, "agent")]


def test_discontinuous_transmission_is_silence() -> None:
    track = RtpTrack("agent", 0.06)
    track.receive(0, 0, PACKET, 0.0)
    *silence, last = track.receive(1, 960 * 21 + 60, PACKET, 0.42)
    assert len(silence) == 21 and all(isinstance(event, Audio) for event in silence[:20])
    assert silence[20] == Missing(60, "lost", "agent") and last == Audio(PACKET, "agent")


@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=60))
def test_any_packets_give_a_timeline_that_does_not_outrun_the_clock(packets: list[tuple[int, int, bytes]]) -> None:
    track = RtpTrack("agent", 0.06)
    events: list[Audio | Missing] = []
    for index, (sequence, timestamp, payload) in enumerate(packets):
        events += track.receive(sequence, timestamp, payload, index * 0.02)
    events += track.flush()
    missing_s = sum(event.samples for event in events if isinstance(event, Missing)) / 48_000
    assert missing_s <= 10.0 * (1 + len(packets)) + len(packets) * 0.02
    assert sum(isinstance(event, Audio) for event in events) <= len(packets) * 51
