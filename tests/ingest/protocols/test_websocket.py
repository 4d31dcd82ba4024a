import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadAudio, BadHello, BadMessage, IngestError, NotPublished, StreamExists, TooManyStreams
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Consented, Ended, Opened, Placed
from ingest.protocols.websocket import WebSocketProtocol, close_reason, error_code, error_message

HELLO: dict[str, Any] = {
    "type": "hello",
    "call_id": "call-1",
    "leg": "customer",
    "encoding": "mulaw",
    "rate_hz": 8_000,
    "channels": 1,
    "metadata": {"queue": "billing"},
}


def hello(**changes: Any) -> str:
    fields = {**HELLO, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


def opened(**changes: Any) -> tuple[WebSocketProtocol, Opened]:
    protocol = WebSocketProtocol()
    (event,) = protocol.receive(hello(**changes))
    assert isinstance(event, Opened)
    return protocol, event


def test_hello_opens_one_stream() -> None:
    _, event = opened()
    assert event.streams == (StreamId("call-1", "customer"),)
    assert event.call_id == "call-1"
    assert event.audio_format == AudioFormat("mulaw", 8_000, 1)
    assert event.metadata == {"queue": "billing"}
    assert event.source == "websocket"


def test_stereo_opens_two_streams_in_the_order_of_the_channels() -> None:
    _, event = opened(leg=..., legs=["agent", "customer"], channels=2, encoding="s16le", rate_hz=44_100)
    assert event.streams == (StreamId("call-1", "agent"), StreamId("call-1", "customer"))
    assert event.audio_format == AudioFormat("s16le", 44_100, 2)


def test_channels_and_metadata_may_be_left_out() -> None:
    _, event = opened(channels=..., metadata=...)
    assert event.audio_format.channels == 1
    assert event.metadata == {}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"type": "helo"}, "type"),
        ({"call_id": ...}, "call_id"),
        ({"call_id": "a/b"}, "call_id"),
        ({"call_id": ""}, "call_id"),
        ({"call_id": "x" * 129}, "call_id"),
        ({"call_id": "call\n"}, "call_id"),
        ({"call_id": 7}, "call_id"),
        ({"leg": "a b"}, "leg"),
        ({"leg": ...}, "leg"),
        ({"legs": ["customer", "agent"]}, "not both"),
        ({"leg": ..., "legs": ["customer", "agent"]}, "1 channel"),
        ({"leg": ..., "legs": ["agent", "agent"], "channels": 2}, "2 channel"),
        ({"leg": ..., "legs": ["a", "b", "c"], "channels": 2}, "legs"),
        ({"channels": 2}, "2 channel"),
        ({"channels": 3}, "channels"),
        ({"encoding": "opus"}, "s16le"),
        ({"encoding": ...}, "encoding"),
        ({"rate_hz": 11_025}, "44100"),
        ({"rate_hz": "8000"}, "rate_hz"),
        ({"metadata": {str(n): "" for n in range(33)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"k": "v" * 257}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_hello_that_cannot_be_served_is_told_why(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadHello, match=says):
        WebSocketProtocol().receive(hello(**changes))


@pytest.mark.parametrize(
    "text", ["", "hello", "[]", "null", '"hello"', "{", '{"type":"end"}', "[" * 5_000, "x" * 70_000]
)
def test_a_first_text_that_is_no_hello(text: str) -> None:
    with pytest.raises(BadHello):
        WebSocketProtocol().receive(text)


@given(
    st.text()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5).map(json.dumps)
)
def test_any_garbage_is_bad_hello_first_and_bad_message_later(text: str) -> None:
    with pytest.raises(BadHello) as caught:
        WebSocketProtocol().receive(text)
    json.loads(error_message(caught.value))
    assert len(close_reason(str(caught.value)).encode()) <= 123
    protocol, _ = opened()
    with pytest.raises(BadMessage):
        protocol.receive(text)


@given(
    st.dictionaries(
        st.sampled_from(sorted(HELLO)), st.none() | st.integers() | st.text() | st.lists(st.text(max_size=3))
    )
)
def test_any_hello_with_wrong_fields_is_bad_hello_or_opens(changes: dict[str, Any]) -> None:
    try:
        opened(**changes)
    except BadHello as error:
        assert str(error).startswith("The hello cannot be served: ")  # to open is as good


def test_binary_before_the_hello() -> None:
    with pytest.raises(BadMessage, match="hello"):
        WebSocketProtocol().receive(b"\0\0")


def test_audio_is_handed_on_as_it_came_and_end_ends() -> None:
    protocol, _ = opened()
    assert protocol.receive(b"abc") == [Audio(b"abc")]
    assert protocol.receive(b"") == [Audio(b"")]
    assert protocol.receive(' { "type" : "end" } ') == [Ended()]


@pytest.mark.parametrize("message", [hello(), '{"type":"end","now":true}', '{"type":"END"}'])
def test_text_where_audio_belongs(message: str) -> None:
    protocol, _ = opened()
    with pytest.raises(BadMessage, match="where audio belongs"):
        protocol.receive(message)


def test_a_consent_is_told() -> None:
    protocol, _ = opened(leg=..., legs=["customer", "agent"], channels=2)
    assert protocol.receive('{"type":"consent","leg":"customer","analyse":false}') == [Consented("customer", False)]
    assert protocol.receive('{"type":"consent","analyse":true,"purposes":["emotion","health"]}') == [
        Consented(None, True, ("emotion", "health"))
    ]
    assert protocol.receive(b"abc") == [Audio(b"abc")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"analyse": ...}, "analyse: Field required"),
        ({"analyse": "no"}, "analyse"),
        ({"leg": "supervisor"}, "this connection carries"),
        ({"leg": 1}, "leg"),
        ({"purposes": ["Everything!"]}, "purposes.0"),
        ({"purposes": ["x"] * 17}, "purposes"),
        ({"at": 1.0}, "at: Extra"),
    ],
)
def test_a_consent_that_cannot_be_taken_is_told_why(changes: dict[str, Any], says: str) -> None:
    fields = {"type": "consent", "leg": "customer", "analyse": False, **changes}
    protocol, _ = opened()
    with pytest.raises(BadMessage, match=says):
        protocol.receive(json.dumps({name: value for name, value in fields.items() if value is not ...}))


def test_the_answer_to_a_consent_says_from_when_it_holds() -> None:
    protocol, event = opened()
    assert json.loads(protocol.consented(Consented(None, False, ("emotion",)), {event.streams[0]: 24_000})) == {
        "type": "consented",
        "analyse": False,
        "purposes": ["emotion"],
        "streams": {"call-1/customer": {"since_s": 1.5}},
    }


@pytest.mark.parametrize("message", [b"", '{"type":"end"}', '{"type":"consent","analyse":false}', hello()])
def test_nothing_may_follow_the_end(message: str | bytes) -> None:
    protocol, _ = opened()
    protocol.receive('{"type":"end"}')
    with pytest.raises(BadMessage, match="after"):
        protocol.receive(message)


def test_what_the_client_is_told() -> None:
    protocol, event = opened(leg=..., legs=["customer", "agent"], channels=2)
    customer, agent = event.streams
    assert json.loads(protocol.ready(0.25)) == {
        "type": "ready",
        "streams": ["call-1/customer", "call-1/agent"],
        "ack_interval_s": 0.25,
    }
    nothing = {customer: 0, agent: 0}
    assert protocol.ack(nothing, nothing) is None
    ack = protocol.ack({customer: 320, agent: 0}, {customer: 320, agent: 0})
    assert ack is not None
    assert json.loads(ack) == {
        "type": "ack",
        "streams": {"call-1/customer": {"published_s": 0.02}, "call-1/agent": {"published_s": 0.0}},
    }
    assert protocol.ack({customer: 320, agent: 0}, {customer: 320, agent: 0}) is None
    assert protocol.ack({customer: 320, agent: 320}, {customer: 320, agent: 320}) is not None
    kept = protocol.ack({customer: 320, agent: 320}, {customer: 640, agent: 320})
    assert kept is not None
    assert json.loads(kept)["streams"] == {
        "call-1/customer": {"published_s": 0.02, "kept_s": 0.04},
        "call-1/agent": {"published_s": 0.02},
    }
    same = {customer: 320, agent: 320}, {customer: 640, agent: 320}
    assert protocol.ack(*same) is None
    assert protocol.ack(*same, again=True) == kept
    assert protocol.ack({customer: 640, agent: 320}, {customer: 640, agent: 320}) is not None
    assert protocol.ack({customer: 640, agent: 320}, {customer: 640, agent: 320}, again=True) is None, "all is in Kafka"
    assert json.loads(protocol.ended({customer: 640, agent: 640}, padded=160)) == {
        "type": "ended",
        "streams": {
            "call-1/customer": {"published_s": 0.04, "duration_s": 0.03, "padded_s": 0.01},
            "call-1/agent": {"published_s": 0.04, "duration_s": 0.03, "padded_s": 0.01},
        },
    }


def test_errors_have_names_codes_and_reasons() -> None:
    assert [error_code(error("x")) for error in (BadHello, BadAudio, StreamExists, TooManyStreams, NotPublished)] == [
        "bad_hello",
        "bad_audio",
        "stream_exists",
        "too_many_streams",
        "not_published",
    ]
    assert json.loads(error_message(NotPublished("Kafka is away."))) == {
        "type": "error",
        "code": "not_published",
        "close_code": 1013,
        "retriable": True,
        "message": "Kafka is away.",
    }


@given(st.text(max_size=700))
def test_reasons_fit_a_close_frame_and_a_log_line(text: str) -> None:
    reason = close_reason(text)
    assert len(reason.encode()) <= 123
    assert reason.isprintable()
    assert json.loads(error_message(IngestError(text)))["message"].isprintable()


def test_a_place_in_the_timeline_is_told() -> None:
    protocol, _ = opened()
    assert protocol.receive('{"type":"at","sample":16000}') == [Placed(16_000)]


@pytest.mark.parametrize("sample", [-1, 1.5, "1", None, 1 << 48])
def test_a_place_that_cannot_be_is_told(sample: Any) -> None:
    protocol, _ = opened()
    with pytest.raises(BadMessage, match="sample"):
        protocol.receive(json.dumps({"type": "at", "sample": sample}))


def test_a_session_is_asked_for_and_offered() -> None:
    plain, _ = opened()
    assert (plain.resumable, plain.resume) == (False, None)
    protocol, _ = opened(resumable=True)
    assert protocol.resumable
    ready = json.loads(protocol.ready(0.25, "token", 30.0, 98_720))
    assert (ready["session"], ready["resume_s"], ready["received"]) == ("token", 30.0, 98_720)
    again, event = opened(resume="token")
    assert (again.resumable, again.resume) == (True, "token")
    assert event == opened()[1], "what is announced is the same"


@pytest.mark.parametrize("changes", [{"resume": ""}, {"resume": 7}, {"resumable": "yes"}, {"resume": "x" * 129}])
def test_a_session_that_cannot_be_asked_for(changes: dict[str, Any]) -> None:
    with pytest.raises(BadHello, match=next(iter(changes))):
        WebSocketProtocol().receive(hello(**changes))
