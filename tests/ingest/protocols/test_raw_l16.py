import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadHello, BadMessage, IngestError
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Ended, Marked, Opened
from ingest.protocols.raw_l16 import DIALECTS, RATES_HZ, RawL16Protocol

JAMBONZ: dict[str, Any] = {
    "sampleRate": 16_000,
    "mixType": "stereo",
    "callSid": "aaaa1111-2222-4333-8444-555566667777",
    "accountSid": "bbbb1111-2222-4333-8444-555566667777",
    "direction": "inbound",
    "from": "+15083084809",
    "to": "+15083728299",
    "sip": {"headers": {"via": "nested, and not kept"}},
    "queue": "billing",
}
"""The listen verb's first text: rate and mix, the call's attributes, and whatever `metadata` adds."""
VONAGE: dict[str, Any] = {
    "event": "websocket:connected",
    "content-type": "audio/l16;rate=16000",
    "caller-id": "447700900000",
}


def protocol_of(dialect: str, **query: str) -> RawL16Protocol:
    return RawL16Protocol(DIALECTS[dialect], query, "fallback-1")


def opened(dialect: str, hello: object, **query: str) -> Opened:
    text = hello if isinstance(hello, str | bytes) else json.dumps(hello)
    first, *_ = protocol_of(dialect, **query).receive(text)
    assert isinstance(first, Opened)
    return first


def test_jambonz() -> None:
    event = opened("jambonz", JAMBONZ)
    call_id = "aaaa1111-2222-4333-8444-555566667777"
    assert event.streams == (StreamId(call_id, "caller"), StreamId(call_id, "callee"))
    assert event.audio_format == AudioFormat("s16le", 16_000, 2)
    assert event.source == "jambonz"
    assert event.metadata["direction"] == "inbound"
    assert event.metadata["queue"] == "billing"
    assert "sip" not in event.metadata


def test_metadata_of_jambonz_may_name_call_and_legs() -> None:
    event = opened("jambonz", {**JAMBONZ, "call_id": "call-1", "legs": ["customer", "agent"]})
    assert event.streams == (StreamId("call-1", "customer"), StreamId("call-1", "agent"))


def test_mono_is_the_caller_and_mixed_is_nobody() -> None:
    assert opened("jambonz", {**JAMBONZ, "mixType": "mono"}).streams[0].leg == "caller"
    assert opened("jambonz", {**JAMBONZ, "mixType": "mixed"}).streams[0].leg == "mixed"


def test_mod_audio_fork_with_its_own_metadata() -> None:
    event = opened("mod_audio_fork", {"to": "6173333456", "callid": "ab@c"}, rate="8k", mix="mono", leg="customer")
    assert event.streams == (StreamId("ab@c", "customer"),)
    assert event.audio_format == AudioFormat("s16le", 8_000, 1)
    assert event.metadata == {"to": "6173333456", "callid": "ab@c"}


@pytest.mark.parametrize("dialect", ["mod_audio_fork", "mod_audio_stream"])
def test_freeswitch_needs_no_hello(dialect: str) -> None:
    protocol = protocol_of(dialect, rate="8000", mix="stereo", call_id="call-1", legs="customer,agent")
    first, audio = protocol.receive(b"\1\0\2\0")
    assert isinstance(first, Opened)
    assert first.streams == (StreamId("call-1", "customer"), StreamId("call-1", "agent"))
    assert audio == Audio(b"\1\0\2\0")
    assert protocol.receive(b"\3\0") == [Audio(b"\3\0")]


def test_mod_audio_stream_may_say_anything() -> None:
    event = opened("mod_audio_stream", "no JSON at all", rate="16k", mix="mono")
    assert event.metadata == {"text": "no JSON at all"}
    assert event.call_id == "fallback-1"


def test_vonage() -> None:
    event = opened("vonage", {**VONAGE, "call_id": "call-1", "leg": "customer"})
    assert event.streams == (StreamId("call-1", "customer"),)
    assert event.audio_format == AudioFormat("s16le", 16_000, 1)
    assert event.metadata == {"content-type": "audio/l16;rate=16000", "caller-id": "447700900000"}
    assert opened("vonage", VONAGE).streams == (StreamId("fallback-1", "unknown"),)


def test_the_address_wins_in_naming_and_the_hello_in_what_the_platform_knows() -> None:
    event = opened("jambonz", JAMBONZ, call_id="call-9", rate="8000", mix="mono", token="geheim")
    assert event.call_id == "call-9"
    assert event.audio_format == AudioFormat("s16le", 16_000, 2)
    assert "geheim" not in str(event)


@pytest.mark.parametrize("said", [24_000, "24000", "24k", " 24k "])
def test_ways_to_say_a_rate(said: object) -> None:
    assert opened("jambonz", {**JAMBONZ, "sampleRate": said}).audio_format.rate_hz == 24_000


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_rates(rate_hz: int) -> None:
    assert opened("mod_audio_fork", b"\0\0", rate=str(rate_hz), mix="mono").audio_format.rate_hz == rate_hz


@pytest.mark.parametrize(
    ("dialect", "hello", "query", "says"),
    [
        ("jambonz", "hello", {}, "no JSON object"),
        ("jambonz", "[" * 5_000, {}, "no JSON object"),
        ("jambonz", json.dumps({**JAMBONZ, "x": "y" * 70_000}), {}, "65536"),
        ("jambonz", {**JAMBONZ, "sampleRate": 11_025}, {}, "11025"),
        ("jambonz", {**JAMBONZ, "sampleRate": [8_000]}, {}, "not taken"),
        ("jambonz", {**JAMBONZ, "mixType": "quad"}, {}, "quad"),
        ("jambonz", {**JAMBONZ, "mixType": ["mono"]}, {}, "mix"),
        ("jambonz", {**JAMBONZ, "call_id": "a/b"}, {}, "call_id"),
        ("jambonz", JAMBONZ, {"call_id": "a~b"}, "call_id"),
        ("jambonz", JAMBONZ, {"legs": "customer"}, "2 channel"),
        ("jambonz", JAMBONZ, {"legs": "a,a"}, "2 channel"),
        ("jambonz", {**JAMBONZ, "mixType": "mono"}, {"leg": "a,b"}, "1 channel"),
        ("jambonz", JAMBONZ, {"legs": "a,b c"}, "leg"),
        ("mod_audio_fork", {"to": "1"}, {}, "mix=stereo"),
        ("mod_audio_fork", {"to": "1"}, {"mix": "mono"}, "rate=8000"),
        ("mod_audio_stream", b"\0\0", {"rate": "8k"}, "mix=stereo"),
        ("vonage", {**VONAGE, "event": "websocket:dtmf"}, {}, "websocket:connected"),
        ("vonage", {**VONAGE, "content-type": "audio/opus"}, {}, "audio/opus"),
        ("vonage", {"event": "websocket:connected"}, {}, "Nothing says the rate"),
    ],
)
def test_a_hello_that_cannot_be_served_is_told_why(
    dialect: str, hello: object, query: dict[str, str], says: str
) -> None:
    with pytest.raises(BadHello) as caught:
        opened(dialect, hello, **query)
    assert says in str(caught.value)


@pytest.mark.parametrize("dialect", ["jambonz", "vonage"])
def test_audio_before_a_hello_that_is_needed(dialect: str) -> None:
    with pytest.raises(BadMessage, match="before the hello"):
        protocol_of(dialect).receive(b"\0\0")


def test_texts_of_jambonz() -> None:
    protocol = protocol_of("jambonz")
    protocol.receive(json.dumps(JAMBONZ))
    assert protocol.receive('{"event":"dtmf","dtmf":"5","duration":1600}') == [Marked("dtmf")]
    assert protocol.receive('{"type":"playDone"}') == []
    with pytest.raises(BadMessage, match="no JSON object"):
        protocol.receive("hello")
    assert protocol.receive('{"type":"disconnect"}') == [Ended()]
    assert protocol.receive(b"\0\0") == protocol.receive("anything") == [], "what is still under way"


def test_texts_of_vonage() -> None:
    protocol = protocol_of("vonage")
    protocol.receive(json.dumps(VONAGE))
    assert protocol.receive('{"event":"websocket:dtmf","digit":"5","duration":260}') == [Marked("dtmf")]
    assert protocol.receive('{"event":"websocket:cleared"}') == []
    assert protocol.receive('{"event":["websocket:dtmf"]}') == []


def test_texts_of_freeswitch_may_be_anything() -> None:
    protocol = protocol_of("mod_audio_stream", rate="8k", mix="mono")
    protocol.receive("start")
    assert protocol.receive("agent took over") == []
    assert protocol.receive("") == []
    assert protocol.receive(b"") == []
    assert protocol.receive('{"type":"disconnect"}') == [Ended()]


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(
    st.sampled_from(sorted(DIALECTS)),
    st.lists(
        st.text()
        | st.binary(max_size=50)
        | JSON.map(json.dumps)
        | st.dictionaries(st.sampled_from(sorted({*JAMBONZ, *VONAGE, "call_id", "leg", "legs"})), JSON).map(
            lambda fields: json.dumps({**JAMBONZ, **VONAGE, **fields})
        ),
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(["call_id", "leg", "legs", "rate", "mix"]), st.text(max_size=5)),
)
def test_any_garbage_gives_events_or_an_error_of_ours(
    dialect: str, messages: list[str | bytes], query: dict[str, str]
) -> None:
    protocol = protocol_of(dialect, **query)
    try:
        for message in messages:
            for event in protocol.receive(message):
                if isinstance(event, Opened):
                    assert len(event.streams) == event.audio_format.channels
    except IngestError:
        pass


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8))
def test_any_cutting_of_the_audio_into_messages_gives_the_same_bytes(messages: list[bytes]) -> None:
    protocol = protocol_of("mod_audio_fork", rate="8k", mix="stereo")
    events = [event for message in messages for event in protocol.receive(message)]
    assert b"".join(event.data for event in events if isinstance(event, Audio)) == b"".join(messages)
