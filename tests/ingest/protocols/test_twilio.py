import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.client.twilio_messages import CODECS, VENDORS, Messages, encoded
from callscope.errors import BadAudio, BadHello, BadMessage
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Ended, Event, Marked, Missing, Opened
from ingest.protocols.twilio import TwilioProtocol

LEGS = {"inbound": "customer", "outbound": "agent"}
STREAM = "MZ18ad3ab5a668481ce02b83e7395059f0"
CALL = "CA5a1ebd8dcc0ff4c2a2ea3fcbbdf3a1c4"
ACCOUNT = "AC0123456789abcdef0123456789abcdef"
CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
SILENCE = base64.b64encode(b"\xff" * 160).decode()


def start(**changes: Any) -> str:
    body = {
        "accountSid": ACCOUNT,
        "streamSid": STREAM,
        "callSid": CALL,
        "tracks": ["inbound", "outbound"],
        "customParameters": {"queue": "billing"},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        **changes,
    }
    body = {name: value for name, value in body.items() if value is not ...}
    return json.dumps({"event": "start", "sequenceNumber": "1", "start": body, "streamSid": STREAM})


def media(track: str | None = "inbound", chunk: Any = "1", timestamp: Any = "0", payload: Any = SILENCE) -> str:
    body = {"track": track, "chunk": chunk, "timestamp": timestamp, "payload": payload}
    body = {name: value for name, value in body.items() if value is not None}
    return json.dumps({"event": "media", "sequenceNumber": "3", "media": body, "streamSid": STREAM})


def protocol() -> TwilioProtocol:
    return TwilioProtocol(LEGS, 100)


def opened(**changes: Any) -> TwilioProtocol:
    begun = protocol()
    begun.receive(CONNECTED)
    begun.receive(start(**changes))
    return begun


def test_start_opens_a_stream_for_each_track() -> None:
    begun = protocol()
    assert begun.receive(CONNECTED) == []
    events = begun.receive(start())
    assert [e.streams for e in events if isinstance(e, Opened)] == [
        (StreamId(CALL, "customer"),),
        (StreamId(CALL, "agent"),),
    ]
    first = events[0]
    assert isinstance(first, Opened)
    assert first.audio_format == AudioFormat("mulaw", 8_000, 1)
    assert first.source == "twilio"
    assert first.metadata == {
        "queue": "billing",
        "platform": "twilio",
        "platform_call": CALL,
        "platform_stream": STREAM,
        "platform_account": ACCOUNT,
    }


def test_audio_goes_to_its_leg_at_the_time_of_its_timestamp() -> None:
    begun = opened()
    assert begun.receive(media("inbound", "1", "0")) == [Audio(b"\xff" * 160, "customer")]
    assert begun.receive(media("outbound", "1", "1000")) == [
        Missing(8_000, "lost", "agent"),
        Audio(b"\xff" * 160, "agent"),
    ]
    assert begun.receive(media("inbound", "3", "40")) == []
    assert begun.receive(media("inbound", "2", "20")) == [Audio(b"\xff" * 160, "customer")] * 2


def test_the_end_brings_out_what_waits() -> None:
    begun = opened()
    begun.receive(media("inbound", "1", "0"))
    begun.receive(media("inbound", "3", "40"))
    assert begun.receive('{"event":"stop","sequenceNumber":"5","stop":{}}') == [
        Missing(160, "lost", "customer"),
        Audio(b"\xff" * 160, "customer"),
        Ended(),
    ]
    with pytest.raises(BadMessage, match="after the stop"):
        begun.receive(media())


def test_a_pressed_key_is_told_of_and_its_digit_is_nowhere() -> None:
    begun = opened()
    events = begun.receive('{"event":"dtmf","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"7"}}')
    assert events == [Marked("dtmf", "customer")]
    assert "7" not in repr(events)
    assert begun.receive('{"event":"dtmf","dtmf":{"digit":"7"}}') == [Marked("dtmf", "customer")]


def test_a_pressed_key_on_a_track_without_audio_is_about_the_whole_call() -> None:
    assert opened(tracks=["outbound"]).receive('{"event":"dtmf","dtmf":{"track":"inbound_track","digit":"7"}}') == [
        Marked("dtmf", None)
    ]
    assert opened(tracks=...).receive('{"event":"dtmf","dtmf":{"track":"inbound_track","digit":"7"}}') == []


@pytest.mark.parametrize("event", ["mark", "playedStream", "clearedAudio", "clear", "error", "something-new"])
def test_messages_that_need_no_action(event: str) -> None:
    begun = opened()
    assert begun.receive(json.dumps({"event": event, "sequenceNumber": "4", event: {"name": "x"}})) == []
    assert begun.unheeded == 1


def test_what_did_not_come_is_known_by_the_sequence_numbers() -> None:
    begun = opened()
    begun.receive(json.dumps({"event": "mark", "sequenceNumber": "2"}))
    assert begun.unseen == 0
    begun.receive(json.dumps({"event": "mark", "sequenceNumber": "6"}))
    assert begun.unseen == 3
    begun.receive(json.dumps({"event": "mark", "sequenceNumber": "5"}))
    assert begun.unseen == 2


def test_late_chunks_are_counted() -> None:
    begun = opened()
    begun.receive(media("inbound", "1"))
    assert begun.receive(media("inbound", "1")) == []
    assert begun.receive(media("outbound", "1")) != []
    assert begun.late == 1


def test_custom_parameters_may_name_call_and_legs() -> None:
    begun = protocol()
    parameters = {"callscopeCall": "c-17", "callscopeInbound": "agent", "callscopeOutbound": "customer", "n": 1}
    events = begun.receive(start(customParameters=parameters))
    assert [e.streams[0] for e in events if isinstance(e, Opened)] == [
        StreamId("c-17", "agent"),
        StreamId("c-17", "customer"),
    ]
    assert isinstance(events[0], Opened)
    assert events[0].metadata["n"] == "1"
    assert not any(name.startswith("callscope") for name in events[0].metadata)


def test_a_token_in_the_custom_parameters_is_shown_to_nobody() -> None:
    begun = protocol()
    events = begun.receive(start(customParameters={"callscopeToken": "secret-token"}))
    assert begun.start is not None
    assert begun.start.token == "secret-token"
    assert "secret-token" not in repr(events) + repr(begun.start)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"callSid": ...}, "names no call"),
        ({"callSid": ""}, "names no call"),
        ({"callSid": 7}, "names no call"),
        ({"mediaFormat": ...}, "media format"),
        ({"mediaFormat": {"encoding": "OPUS", "sampleRate": 16000}}, "PCMU, PCMA and L16"),
        ({"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 11025}}, "'11025' Hz"),
        ({"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 2}}, "one"),
        ({"tracks": ["inbound", "sideways"]}, "sideways"),
        ({"customParameters": []}, None),
        ({"customParameters": ["x"]}, "not an object"),
        ({"customParameters": {"x": "y" * 40_000}}, "at most 32768"),
        ({"customParameters": {"callscopeCall": "a/b"}}, "cannot name"),
        ({"customParameters": {"callscopeInbound": "agent"}}, "a leg of its own"),
        ({"customParameters": {"callscopeInbound": "a b"}}, "cannot name"),
    ],
)
def test_a_start_that_cannot_be_served_is_told_why(changes: dict[str, Any], says: str | None) -> None:
    if says is None:
        opened(**changes)
        return
    with pytest.raises(BadHello, match=says):
        protocol().receive(start(**changes))


def test_a_call_id_that_cannot_be_one_here_becomes_one() -> None:
    events = protocol().receive(start(callSid="v3:a/b~c"))
    assert isinstance(events[0], Opened)
    assert events[0].call_id == "v3:a-b-c"
    assert events[0].metadata["platform_call"] == "v3:a/b~c"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"payload": "!!!!"}, "not base64"),
        ({"payload": "ÿ"}, "not base64"),
        ({"payload": "AAA"}, "not base64"),
    ],
)
def test_audio_that_cannot_be_decoded(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadAudio, match=says):
        opened().receive(media(**changes))


def test_sixteen_bit_audio_must_be_whole_samples() -> None:
    begun = opened(mediaFormat={"encoding": "audio/x-l16", "sampleRate": 16000})
    with pytest.raises(BadAudio, match="inside a sample"):
        begun.receive(media(payload=base64.b64encode(b"abc").decode()))


@pytest.mark.parametrize(
    "message",
    [
        start(),
        '{"event":"media"}',
        '{"event":"media","media":{}}',
        media(track="sideways"),
        media(chunk="-1"),
        media(chunk="1" * 30),
        media(timestamp="soon"),
        media(timestamp=1.5),
        media(payload=7),
        '{"event":7}',
        "[]",
        "",
        b"\x00",
        "[" * 100_000,
        '{"event":"dtmf","dtmf":{"track":"sideways"}}',
    ],
)
def test_messages_that_are_wrong_after_the_start(message: str | bytes) -> None:
    with pytest.raises(BadMessage):
        opened().receive(message)


@pytest.mark.parametrize("message", ["", "x", "[]", "{}", "null", '{"event":null}'])
def test_what_is_no_message_before_the_start(message: str) -> None:
    with pytest.raises(BadHello):
        protocol().receive(message)


@pytest.mark.parametrize("message", [media(), '{"event":"dtmf"}', '{"event":"stop"}', b"\x00"])
def test_messages_that_are_wrong_before_the_start(message: str | bytes) -> None:
    with pytest.raises(BadMessage):
        protocol().receive(message)


# What each platform's documentation shows, with the audio made here.
DOCUMENTED: Mapping[str, tuple[dict[str, Any], dict[str, Any], AudioFormat]] = {
    "telnyx": (
        {
            "event": "start",
            "sequence_number": "1",
            "stream_id": "32DE0DEA-53CB-4B21-89A4-9E1819C043BC",
            "start": {
                "user_id": "3E6F995F-85F7-4705-9741-53B116D28237",
                "call_control_id": "v2:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ",
                "call_session_id": "ff55a038-6f5d-11ef-9692-02420aeffb1f",
                "from": "+13122010094",
                "to": "+13122123456",
                "tags": ["TAG1", "TAG2"],
                "client_state": "aGF2ZSBhIG5pY2UgZGF5ID1d",
                "custom_parameters": {"customer_id": "customer_123"},
                "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
            },
        },
        {
            "event": "media",
            "sequence_number": "4",
            "media": {"track": "outbound", "chunk": "1", "timestamp": "0", "payload": SILENCE},
            "stream_id": "32DE0DEA-53CB-4B21-89A4-9E1819C043BC",
        },
        AudioFormat("mulaw", 8_000, 1),
    ),
    "plivo": (
        {
            "event": "start",
            "sequenceNumber": 1,
            "start": {
                "callId": "12345678-1234-1234-1234-123456789abc",
                "streamId": "87654321-4321-4321-4321-cba987654321",
                "accountId": "MAXXXXXXXXXXXXXXXXXX",
                "tracks": ["outbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
            },
            "extra_headers": "userId=12345;sessionId=abc-xyz",
        },
        {
            "event": "media",
            "sequenceNumber": 42,
            "streamId": "87654321-4321-4321-4321-cba987654321",
            "media": {"track": "outbound", "timestamp": "1705312200000", "chunk": 41, "payload": SILENCE},
            "extra_headers": "userId=12345;sessionId=abc-xyz",
        },
        AudioFormat("mulaw", 8_000, 1),
    ),
    "exotel": (
        {
            "event": "start",
            "sequence_number": "1",
            "stream_sid": "MZxxxxxxxxxxxxxxxxxxxxxxxx",
            "start": {
                "stream_sid": "MZxxxxxxxxxxxxxxxxxxxxxxxx",
                "call_sid": "CAxxxxxxxxxxxxxxxxxxxxxxxx",
                "account_sid": "ACxxxxxxxxxxxxxxxxxxxxxxxx",
                "from": "+919876543210",
                "to": "+918047491899",
                "custom_parameters": {"callscopeInbound": "agent", "callscopeOutbound": "customer"},
                "media_format": {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"},
            },
        },
        {
            "event": "media",
            "sequence_number": "3",
            "stream_sid": "MZxxxxxxxxxxxxxxxxxxxxxxxx",
            "media": {"chunk": "1", "timestamp": "0", "payload": SILENCE},
        },
        AudioFormat("s16le", 8_000, 1),
    ),
}


@pytest.mark.parametrize("vendor", sorted(DOCUMENTED))
def test_the_documented_messages_of_each_platform(vendor: str) -> None:
    begin, audio, audio_format = DOCUMENTED[vendor]
    begun = protocol()
    events = begun.receive(json.dumps(begin)) + begun.receive(json.dumps(audio))
    (stream,) = [e for e in events if isinstance(e, Opened)]
    assert stream.source == vendor
    assert stream.audio_format == audio_format
    assert stream.streams[0].leg == "agent"
    assert events[-1] == Audio(b"\xff" * 160, "agent")


def test_plivos_extra_headers_become_metadata() -> None:
    begun = protocol()
    (stream,) = begun.receive(json.dumps(DOCUMENTED["plivo"][0]))
    assert isinstance(stream, Opened)
    assert stream.metadata["userId"] == "12345"
    assert stream.metadata["sessionId"] == "abc-xyz"
    assert isinstance(stream.metadata, dict)
    (bare,) = protocol().receive(json.dumps(DOCUMENTED["plivo"][0] | {"extra_headers": "{}"}))
    assert isinstance(bare, Opened)
    assert set(bare.metadata) == {"platform", "platform_call", "platform_stream", "platform_account"}


def test_telnyx_tells_of_the_tracks_by_their_audio() -> None:
    begun = protocol()
    assert begun.receive(json.dumps(DOCUMENTED["telnyx"][0])) == []
    (stream, _) = begun.receive(json.dumps(DOCUMENTED["telnyx"][1]))
    assert isinstance(stream, Opened)
    assert stream.metadata["client_state"] == "aGF2ZSBhIG5pY2UgZGF5ID1d"
    assert stream.metadata["from"] == "+13122010094"
    assert stream.metadata["customer_id"] == "customer_123"


@pytest.mark.parametrize(
    ("written", "rate", "expected"),
    [
        ("audio/x-mulaw", 8000, AudioFormat("mulaw", 8_000, 1)),
        ("audio/x-mulaw;rate=8000", None, AudioFormat("mulaw", 8_000, 1)),
        ("PCMU", "8000", AudioFormat("mulaw", 8_000, 1)),
        ("PCMA", 8000, AudioFormat("alaw", 8_000, 1)),
        ("audio/x-alaw", None, AudioFormat("alaw", 8_000, 1)),
        ("L16", 16000, AudioFormat("s16le", 16_000, 1)),
        ("L16@24000h", None, AudioFormat("s16le", 24_000, 1)),
        ("audio/x-l16;rate=16000", None, AudioFormat("s16le", 16_000, 1)),
        ("base64", "8000", AudioFormat("s16le", 8_000, 1)),
        ("audio/x-raw", "24000", AudioFormat("s16le", 24_000, 1)),
    ],
)
def test_encodings_as_the_platforms_write_them(written: str, rate: object, expected: AudioFormat) -> None:
    told = {"encoding": written} | ({} if rate is None else {"sampleRate": rate})
    events = protocol().receive(start(mediaFormat=told))
    assert isinstance(events[0], Opened)
    assert events[0].audio_format == expected


@pytest.mark.parametrize(
    ("account", "vendor"),
    [
        (ACCOUNT, "twilio"),
        ("0d5a3f6e-1f0b-4c5d-9a33-5ad2b1c5b0a1", "signalwire"),
        ("5f7d6f0e8a1b2c3d4e5f6071", "talkdesk"),
    ],
)
def test_platforms_with_twilios_messages_are_told_apart_by_account(account: str, vendor: str) -> None:
    events = protocol().receive(start(accountSid=account))
    assert isinstance(events[0], Opened)
    assert events[0].source == vendor


@pytest.mark.parametrize(("vendor", "codec"), [(vendor, codec) for vendor in VENDORS for codec in CODECS[vendor]])
def test_a_simulated_stream_of_each_platform_comes_out_as_it_went_in(vendor: str, codec: Any) -> None:
    rate_hz = 16_000 if codec == "l16" else 8_000
    tracks = ("inbound",) if vendor == "exotel" else ("inbound", "outbound")
    pcm = {track: np.random.default_rng(i).integers(-8_000, 8_000, rate_hz, np.int16) for i, track in enumerate(tracks)}
    peer = Messages(vendor, "c1", tracks, codec, rate_hz, {"queue": "billing"})
    begun = protocol()
    events: list[Event] = [e for text in peer.opening() for e in begun.receive(text)]
    step = rate_hz // 50
    for at in range(0, rate_hz, step):
        for track in tracks:
            text = peer.media(track, at * 1_000 // rate_hz, encoded(vendor, codec, pcm[track][at : at + step]))
            events += begun.receive(text)
        events += begun.receive(peer.dtmf("inbound", "5"))
    events += [e for text in peer.closing() for e in begun.receive(text)] if peer.closing() else begun.closed()
    starts = [e for e in events if isinstance(e, Opened)]
    assert {e.streams[0].leg for e in starts} == {LEGS[track] for track in tracks}
    assert all(e.source == vendor and e.metadata["queue"] == "billing" for e in starts)
    assert not [e for e in events if isinstance(e, Missing)]
    assert len([e for e in events if isinstance(e, Marked)]) == 50
    assert events[-1] == Ended()
    assert begun.late == 0
    for track in tracks:
        data = b"".join(e.data for e in events if isinstance(e, Audio) and e.leg == LEGS[track])
        assert data == encoded("exotel", codec, pcm[track]), "in order, and little-endian"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    "track chunk timestamp payload callSid call_sid callId call_control_id accountSid tracks customParameters "
    "custom_parameters mediaFormat media_format streamSid digit".split()
)
messages = (
    st.text(max_size=40)
    | st.binary(max_size=40)
    | json_values.map(json.dumps)
    | st.builds(
        lambda kind, body, number: json.dumps({"event": kind, kind: body, "sequenceNumber": number}),
        st.sampled_from(["connected", "start", "media", "dtmf", "mark", "stop", "error", "x"]),
        json_values | st.dictionaries(fields, json_values, max_size=6),
        json_values,
    )
    | st.just(start())
    | st.builds(media, st.sampled_from(["inbound", "outbound", None]), json_values, json_values, json_values)
)


@given(st.lists(messages, max_size=12))
def test_any_garbage_is_an_error_of_the_protocol(garbage: list[str | bytes]) -> None:
    begun = protocol()
    try:
        for message in garbage:
            for event in begun.receive(message):
                if isinstance(event, Opened):
                    "".join((*event.metadata, *event.metadata.values())).encode()
    except (BadHello, BadMessage, BadAudio) as error:
        assert str(error)
    if begun.start is not None:
        assert begun.closed()[-1] == Ended()
