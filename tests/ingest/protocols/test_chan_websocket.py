import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadHello, BadMessage, IngestError
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.chan_websocket import FORMATS, ChanWebSocketProtocol
from ingest.protocols.events import Audio, Marked, Opened

START: dict[str, Any] = {
    "event": "MEDIA_START",
    "connection_id": "callscope",
    "channel": "WebSocket/callscope/0x7f2c9c0018c0",
    "channel_id": "1767225600.42",
    "format": "ulaw",
    "optimal_frame_size": 160,
    "ptime": 20,
    "channel_variables": {"CALLSCOPE_CALL_ID": "call-1", "CALLSCOPE_LEG": "agent", "CALLSCOPE_QUEUE": "billing"},
}
PLAIN = (
    "MEDIA_START connection_id:callscope channel:WebSocket/callscope/0x7f2c9c0018c0 channel_id:1767225600.42 "
    "format:slin16 optimal_frame_size:640 ptime:20"
)


def opened(text: str, **query: str) -> Opened:
    (event,) = ChanWebSocketProtocol(query).receive(text)
    assert isinstance(event, Opened)
    return event


def start(**changes: Any) -> str:
    return json.dumps({name: value for name, value in {**START, **changes}.items() if value is not ...})


def started() -> ChanWebSocketProtocol:
    protocol = ChanWebSocketProtocol({})
    protocol.receive(start())
    return protocol


def test_channel_variables_name_the_stream() -> None:
    event = opened(start())
    assert event.streams == (StreamId("call-1", "agent"),)
    assert event.audio_format == AudioFormat("mulaw", 8_000, 1)
    assert event.source == "chan_websocket"
    assert event.metadata["queue"] == "billing"
    assert event.metadata["channel_id"] == "1767225600.42"


def test_variables_that_were_inherited_and_others() -> None:
    event = opened(start(channel_variables={"__CALLSCOPE_CALL_ID": "call-2", "SIPPASSWORD": "geheim"}))
    assert event.call_id == "call-2"
    assert "geheim" not in str(event)


def test_parameters_of_the_address_name_the_stream() -> None:
    event = opened(PLAIN, call_id="call-3", leg="customer", queue="sales", token="geheim")
    assert event.streams == (StreamId("call-3", "customer"),)
    assert event.audio_format == AudioFormat("s16le", 16_000, 1)
    assert event.metadata["queue"] == "sales"
    assert "geheim" not in str(event), "a token is not kept with the call"


def test_variables_win_over_parameters_which_asterisk_may_have_kept_from_another_call() -> None:
    assert opened(start(), call_id="call-0", leg="customer").streams == (StreamId("call-1", "agent"),)


def test_without_names_asterisks_own_id_is_the_call_and_the_leg_unknown() -> None:
    assert opened(PLAIN).streams == (StreamId("1767225600.42", "unknown"),)
    assert opened(start(channel_variables=..., channel_id="pbx a/17.3")).streams == (StreamId("pbx-a-17.3", "unknown"),)


@pytest.mark.parametrize("codec", FORMATS)
def test_codecs(codec: str) -> None:
    assert opened(start(format=codec)).audio_format == FORMATS[codec]


def test_media_and_events() -> None:
    protocol = started()
    assert protocol.receive(b"\xff" * 160) == [Audio(b"\xff" * 160)]
    assert protocol.receive(b"") == []
    assert protocol.receive('{"event":"DTMF_END","channel_id":"1767225600.42","digit":"5"}') == [Marked("dtmf")]
    assert protocol.receive("DTMF_END digit:5 channel_id:1767225600.42") == [Marked("dtmf")]
    for other in ("MEDIA_XOFF", "QUEUE_DRAINED", "STATUS queue_length:0", '{"event":"MEDIA_XON"}', "SOMETHING_NEW"):
        assert protocol.receive(other) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (start(format="opus"), "c(ulaw)"),
        (start(format=...), "codec"),
        (start(format=["ulaw"]), "codec"),
        (start(channel_variables={"CALLSCOPE_CALL_ID": "a/b"}), "call_id"),
        (start(channel_variables={"CALLSCOPE_LEG": 7}), "leg"),
        (start(channel_variables=..., channel_id=...), "no channel_id"),
        ('{"event":"DTMF_END"}', "MEDIA_START"),
        ("hello", "MEDIA_START"),
        ("", "MEDIA_START"),
        ("{", "MEDIA_START"),
        ('{"a":' * 5_000, "MEDIA_START"),
        ('{"event":["MEDIA_START"]}', "MEDIA_START"),
        ("MEDIA_START " + "x" * 70_000, "MEDIA_START"),
    ],
)
def test_a_start_that_cannot_be_served_is_told_why(text: str, says: str) -> None:
    with pytest.raises(BadHello) as caught:
        ChanWebSocketProtocol({}).receive(text)
    assert says in str(caught.value)


def test_media_before_the_start() -> None:
    with pytest.raises(BadMessage, match="before MEDIA_START"):
        ChanWebSocketProtocol({}).receive(b"\xff")


@pytest.mark.parametrize("text", [start(), PLAIN, "", "{", "[]", "hello world", '{"event": 7}', "{}"])
def test_a_text_that_is_no_event(text: str) -> None:
    with pytest.raises(BadMessage):
        started().receive(text)


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5)


@given(
    st.lists(
        st.text()
        | st.binary(max_size=50)
        | JSON.map(json.dumps)
        | st.dictionaries(st.sampled_from(sorted(START)), JSON).map(lambda fields: json.dumps({**START, **fields})),
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(["call_id", "leg", "x"]), st.text(max_size=5)),
)
def test_any_garbage_gives_events_or_an_error_of_ours(messages: list[str | bytes], query: dict[str, str]) -> None:
    protocol = ChanWebSocketProtocol(query)
    try:
        for message in messages:
            for event in protocol.receive(message):
                if isinstance(event, Opened):
                    assert all(len(value) <= 256 for value in event.metadata.values())
    except IngestError:
        pass


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8))
def test_any_cutting_of_the_media_into_messages_gives_the_same_bytes(messages: list[bytes]) -> None:
    protocol = started()
    events = [event for message in messages for event in protocol.receive(message)]
    assert b"".join(event.data for event in events if isinstance(event, Audio)) == b"".join(messages)
