import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.errors import BadAudio, BadHello, BadMessage, IngestError, TooManyMessages
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.audiohook import (
    AUDIO_BYTES,
    MESSAGES_AT_ONCE,
    TEXT_CHARACTERS,
    AudioHookEvent,
    AudioHookProtocol,
    Begun,
    ClientError,
    chosen,
)
from ingest.protocols.audiohook_messages import PARAMETERS, Channel, Media, duration_of, samples_of
from ingest.protocols.events import Audio, Ended, Marked, Missing, Opened
from tests.ingest.protocols.audiohook_client import (
    CONVERSATION,
    NULL,
    OFFER,
    ORGANIZATION,
    PARTICIPANT,
    SESSION,
    Client,
    media,
    open_parameters,
)

LEGS: dict[Channel, str] = {"external": "customer", "internal": "agent"}
STEREO_200_MS = bytes(3_200)


def new() -> tuple[AudioHookProtocol, Client]:
    return AudioHookProtocol(SESSION, ORGANIZATION, LEGS), Client()


def opens(protocol: AudioHookProtocol, client: Client, **changes: Any) -> list[AudioHookEvent]:
    """What comes of "open" after its first event, which is always the same."""
    begun, *events = protocol.receive(client.opens(**changes))
    assert begun == Begun()
    return events


def opened(**changes: Any) -> tuple[AudioHookProtocol, Client]:
    protocol, client = new()
    protocol.receive(client.opens(**changes))
    client.hears(protocol.opened())
    return protocol, client


def hears(protocol: AudioHookProtocol, client: Client, text: str | bytes) -> list[AudioHookEvent]:
    """What comes of a message, and of audio the client's position moves on."""
    if isinstance(text, bytes):
        client.position += len(text) // 2
    return protocol.receive(text)


def hole(start_s: float, discarded_s: float) -> dict[str, str]:
    return {"start": f"PT{start_s}S", "discarded": f"PT{discarded_s}S"}


def test_open_gives_two_legs_and_opened_names_the_offer_as_it_was() -> None:
    protocol, client = new()
    (event,) = opens(protocol, client, language="en-US")
    assert event == Opened(
        (StreamId(CONVERSATION, "customer"), StreamId(CONVERSATION, "agent")),
        AudioFormat("mulaw", 8_000, 2),
        "audiohook",
        {
            "organization_id": ORGANIZATION,
            "session_id": SESSION,
            "participant_id": PARTICIPANT,
            "language": "en-US",
        },
    )
    assert json.loads(protocol.opened()) == {
        "version": "2",
        "type": "opened",
        "id": SESSION,
        "seq": 1,
        "clientseq": 1,
        "parameters": {"media": [OFFER[0]]},
    }


@pytest.mark.parametrize(
    ("offer", "legs"),
    [
        (OFFER, ["customer", "agent"]),
        ([media("internal", "external"), media("internal"), media("external")], ["agent", "customer"]),
        ([media("external", "internal")], ["customer", "agent"]),
        ([media("external")], ["customer"]),
        ([media("internal")], ["agent"]),
        ([media("internal"), media("external"), media("internal", "external")], ["agent", "customer"]),
        ([media("internal", "external", format="L16"), media("external")], ["customer"]),
    ],
)
def test_the_format_chosen_is_one_on_offer_unmodified(offer: list[dict[str, Any]], legs: list[str]) -> None:
    protocol, client = new()
    (event,) = opens(protocol, client, media=offer)
    assert isinstance(event, Opened)
    assert [stream.leg for stream in event.streams] == legs
    (selected,) = client.hears(protocol.opened())["parameters"]["media"]
    assert selected in offer
    assert [LEGS[channel] for channel in selected["channels"]] == legs


@pytest.mark.parametrize("offer", [[], [media("external", format="L16")], [media("external", "external")]])
def test_without_a_format_that_will_do_the_session_opens_without_audio(offer: list[dict[str, Any]]) -> None:
    protocol, client = new()
    assert opens(protocol, client, media=offer) == []
    assert client.hears(protocol.opened())["parameters"] == {"media": []}
    with pytest.raises(BadAudio, match="no format"):
        protocol.receive(bytes(160))


def test_a_channel_that_is_not_wanted_is_not_taken() -> None:
    offered = [Media.model_validate(one) for one in OFFER]
    assert chosen(offered, {"internal": "agent"}) == offered[2]
    assert chosen(offered[:1], {"internal": "agent"}) is None


def test_a_probe_is_answered_and_nothing_comes_of_it() -> None:
    protocol, client = new()
    assert opens(protocol, client, conversationId=NULL, participant={"id": NULL}) == []
    assert protocol.is_probe
    assert client.hears(protocol.opened())["parameters"] == {"media": [OFFER[0]]}
    assert protocol.receive(STEREO_200_MS) == []
    assert protocol.receive(client.says("discarded", hole(0, 1))) == []
    assert protocol.receive(client.says("close", {"reason": "end"})) == [Ended()]
    assert client.hears(protocol.closed())["type"] == "closed"


def test_ping_is_answered_with_its_number() -> None:
    protocol, client = opened()
    assert protocol.receive(client.says("ping")) == []
    assert [client.hears(text) for text in protocol.answers()] == [
        {"version": "2", "type": "pong", "id": SESSION, "seq": 2, "clientseq": 2, "parameters": {}}
    ]
    assert protocol.answers() == []
    protocol.receive(client.says("ping", {"rtt": "PT0.012S"}))
    (pong,) = protocol.answers()
    assert (json.loads(pong)["seq"], json.loads(pong)["clientseq"]) == (3, 3)


def test_ping_and_close_are_answered_before_open() -> None:
    protocol, client = new()
    protocol.receive(client.says("ping"))
    assert client.hears(*protocol.answers())["clientseq"] == 1
    assert protocol.receive(client.says("close", {"reason": "error"})) == [Ended()]
    assert protocol.close_reason == "error"
    assert client.hears(protocol.closed())["clientseq"] == 2


def test_audio_passes_through() -> None:
    protocol, client = opened()
    assert hears(protocol, client, STEREO_200_MS) == [Audio(STEREO_200_MS)]
    assert protocol.position == client.position == 1_600
    assert protocol.receive(b"") == []


def test_a_pause_is_a_hole_to_where_audio_begins_again() -> None:
    protocol, client = opened()
    hears(protocol, client, STEREO_200_MS)
    assert protocol.receive(client.says("paused")) == []
    assert protocol.receive(client.says("paused")) == []  # an answer to another request to pause
    client.position += 80_000
    assert protocol.receive(client.says("ping")) == []  # while paused the position is no sign of loss
    assert protocol.receive(client.says("resumed", hole(0.2, 10))) == [Missing(80_000, "paused")]
    assert protocol.receive(client.says("resumed", hole(10.2, 0))) == []
    assert hears(protocol, client, STEREO_200_MS) == [Audio(STEREO_200_MS)]
    assert protocol.position == client.position == 83_200


def test_a_pause_in_which_the_clients_position_stands_still_is_no_hole() -> None:
    protocol, client = opened()
    hears(protocol, client, STEREO_200_MS)
    protocol.receive(client.says("paused"))
    assert protocol.receive(client.says("resumed", hole(0.2, 0))) == []
    assert hears(protocol, client, STEREO_200_MS) == [Audio(STEREO_200_MS)]


def test_discarded_audio_is_a_hole() -> None:
    protocol, client = opened()
    hears(protocol, client, STEREO_200_MS)
    client.position += 2_400
    assert protocol.receive(client.says("discarded", hole(0.2, 0.3))) == [Missing(2_400, "discarded")]
    assert protocol.position == client.position


def test_a_hole_that_reaches_beyond_the_position_is_not_believed() -> None:
    # The vendor's test suite sends such a message: discarded from 6.3 s on, 0.1 s into the stream.
    protocol, client = opened()
    hears(protocol, client, STEREO_200_MS)
    assert protocol.receive(client.says("discarded", hole(6.3, 0.3))) == []
    client.position += 800
    assert protocol.receive(client.says("discarded", hole(6.3, 0.3))) == [Missing(800, "discarded")]


def test_what_was_heard_is_not_discarded_again() -> None:
    protocol, client = opened()
    for _ in range(5):
        hears(protocol, client, STEREO_200_MS)
    assert protocol.receive(client.says("discarded", hole(0, 0.5))) == []
    assert protocol.position == 8_000


def test_a_position_far_ahead_of_the_audio_means_loss() -> None:
    protocol, client = opened()
    hears(protocol, client, STEREO_200_MS)
    client.position += 8_000
    assert protocol.receive(client.says("update", {"language": "de-DE"})) == []  # may be under way
    client.position += 1
    assert protocol.receive(client.says("update", {"language": "de-DE"})) == [Missing(8_001, "lost")]
    assert protocol.receive(client.says("update", {"language": "de-DE"})) == []


def test_a_call_that_ends_in_a_pause_is_as_long_as_the_client_says() -> None:
    protocol, client = opened()
    hears(protocol, client, STEREO_200_MS)
    protocol.receive(client.says("paused"))
    client.position += 16_000
    assert protocol.receive(client.says("close", {"reason": "end"})) == [Missing(16_000, "paused"), Ended()]


def test_update_is_acknowledged() -> None:
    protocol, client = opened()
    protocol.receive(client.says("update", {"language": "en-US"}))
    assert [client.hears(text)["type"] for text in protocol.answers()] == ["updated"]


def test_a_clients_error_is_told_and_the_session_goes_on() -> None:
    protocol, client = opened()
    assert protocol.receive(client.says("error", {"code": 400, "message": "tough\nstuff"})) == [
        ClientError(400, "tough stuff")
    ]
    assert hears(protocol, client, STEREO_200_MS) == [Audio(STEREO_200_MS)]


def test_a_pressed_key_is_marked_and_not_kept() -> None:
    protocol, client = opened()
    assert protocol.receive(client.says("dtmf", {"digit": "7"})) == [Marked("dtmf", "customer")]


def test_close_ends_and_closed_is_the_last_word() -> None:
    protocol, client = opened()
    assert protocol.receive(client.says("close", {"reason": "disconnect"})) == [Ended()]
    assert protocol.close_reason == "disconnect"
    assert protocol.receive(client.says("ping")) == []
    assert protocol.receive(STEREO_200_MS) == []
    assert protocol.answers() == []
    closed = client.hears(protocol.closed())
    assert (closed["type"], closed["clientseq"], closed["parameters"]) == ("closed", 2, {})


def test_supported_languages_are_none_where_they_are_asked_for() -> None:
    protocol, client = new()
    protocol.receive(client.opens(supportedLanguages=True))
    assert client.hears(protocol.opened())["parameters"]["supportedLanguages"] == []


def test_a_session_that_goes_on_is_told_what_is_received_already() -> None:
    protocol, client = new()
    client.position = 8_000
    before = "66666666-6666-4666-8666-66666666ABCD"
    protocol.receive(client.opens(continuedSessions=[{"id": before, "serverseq": 3, "clientseq": 4}]))
    assert protocol.continued == (before.lower(),)
    assert protocol.opened_at == protocol.position == 8_000
    assert client.hears(protocol.opened(20_000))["parameters"]["discardTo"] == "PT2.5S"


def test_audio_that_an_earlier_session_brought_is_not_taken_again() -> None:
    protocol, client = new()
    client.position = 8_000
    protocol.receive(client.opens())
    client.hears(protocol.opened(9_000))
    client.position = 8_400
    assert protocol.receive(client.says("discarded", hole(1, 0.05))) == []
    data = bytes(range(256)) * 8
    assert protocol.receive(data) == [Audio(data[2 * 600 :])]
    assert protocol.position == 8_400 + 1_024
    assert protocol.receive(data) == [Audio(data)]


def test_what_the_handshake_announced_must_be_what_open_says() -> None:
    protocol, client = new()
    with pytest.raises(BadHello, match="organizationId"):
        protocol.receive(client.opens(organizationId=CONVERSATION))
    protocol, client = new()
    with pytest.raises(BadMessage, match='"id"'):
        protocol.receive(client.opens().replace(SESSION, CONVERSATION))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seq": 1}, "should be 2"),
        ({"seq": 3}, "should be 2"),
        ({"seq": -1}, "seq"),
        ({"seq": "2"}, "seq"),
        ({"serverseq": 2}, "only 1"),
        ({"id": CONVERSATION}, '"id"'),
        ({"id": "x"}, "id"),
        ({"version": "1"}, "version"),
        ({"version": 2}, "version"),
        ({"type": "hello"}, "no message 'hello'"),
        ({"type": 1}, "type"),
        ({"position": "PT-1S"}, "position"),
        ({"position": "1"}, "position"),
        ({"position": "PT1e3S"}, "position"),
        ({"position": "PT86401S"}, "position"),
        ({"parameters": []}, "parameters"),
        ({"parameters": ...}, "parameters"),
    ],
)
def test_envelopes_that_are_wrong_are_refused_with_the_reason(changes: dict[str, Any], says: str) -> None:
    protocol, client = opened()
    fields = {**json.loads(client.says("ping")), **changes}
    with pytest.raises(BadMessage, match=says):
        protocol.receive(json.dumps({name: value for name, value in fields.items() if value is not ...}))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("close", {}),
        ("close", {"reason": "because"}),
        ("resumed", {"start": "PT1S"}),
        ("discarded", {"start": "PT1S", "discarded": 1}),
        ("discarded", {"start": "PTS", "discarded": "PT.S"}),
        ("update", {"language": "<b>"}),
        ("error", {"code": 1, "message": "?"}),
        ("ping", {"rtt": 5}),
    ],
)
def test_parameters_that_are_wrong_are_refused(kind: str, parameters: dict[str, Any]) -> None:
    protocol, client = opened()
    with pytest.raises(BadMessage, match=f'parameters of "{kind}"'):
        protocol.receive(client.says(kind, parameters))


@pytest.mark.parametrize(
    "changes",
    [
        {"conversationId": "1"},
        {"participant": {}},
        {"participant": None},
        {"media": [{**OFFER[0], "rate": 16_000}]},
        {"media": [{**OFFER[0], "channels": ["left"]}]},
        {"media": [OFFER[0]] * 33},
        {"continuedSessions": [{"id": SESSION}]},
    ],
)
def test_open_is_checked(changes: dict[str, Any]) -> None:
    protocol, client = new()
    with pytest.raises(BadMessage, match="open"):
        protocol.receive(client.opens(**changes))


def test_what_is_unknown_in_a_message_is_passed_over() -> None:
    protocol, client = new()
    text = client.says("open", open_parameters(isBilled=True), extra=1)
    assert [type(event) for event in protocol.receive(text)] == [Begun, Opened]


@pytest.mark.parametrize("kind", ["paused", "resumed", "discarded", "update", "error", "dtmf"])
def test_nothing_of_the_stream_may_come_before_open(kind: str) -> None:
    protocol, client = new()
    parameters = {**hole(0, 0), "language": "en-US", "code": 400, "message": "", "digit": "1"}
    with pytest.raises(BadMessage, match='before "open"'):
        protocol.receive(client.says(kind, parameters))


def test_audio_must_come_in_its_time_and_size() -> None:
    protocol, _ = new()
    with pytest.raises(BadAudio, match="before"):
        protocol.receive(STEREO_200_MS)
    protocol, client = opened()
    protocol.receive(client.says("paused"))
    with pytest.raises(BadAudio, match="paused"):
        protocol.receive(STEREO_200_MS)
    for size in (3, AUDIO_BYTES + 2):
        protocol, _ = opened()
        with pytest.raises(BadAudio, match=str(size)):
            protocol.receive(bytes(size))


def test_a_second_open_and_a_text_too_long_are_refused() -> None:
    protocol, client = opened()
    with pytest.raises(BadMessage, match="second time"):
        protocol.receive(client.opens())
    protocol, client = opened()
    with pytest.raises(BadMessage, match=str(TEXT_CHARACTERS)):
        protocol.receive(client.says("ping", {"x": "y" * TEXT_CHARACTERS}))


def test_messages_are_counted_by_the_clock_that_is_passed_in() -> None:
    protocol, client = new()
    for n in range(MESSAGES_AT_ONCE):
        protocol.receive(client.says("ping"), 5.0 if n else 0.0)
    protocol.receive(client.says("ping"), 5.1)
    protocol.receive(client.says("ping"), 5.1)
    with pytest.raises(TooManyMessages):
        for _ in range(3):
            protocol.receive(client.says("ping"), 5.1)


def test_after_a_failure_only_close_counts() -> None:
    protocol, client = opened()
    with pytest.raises(BadMessage):
        protocol.receive("{")
    told = client.hears(protocol.disconnect("error", "not\nJSON"))
    assert told["parameters"] == {"reason": "error", "info": "not JSON"}
    for ignored in (
        STEREO_200_MS,
        "{",
        client.says("ping"),
        client.opens(),
        client.says("close", {"reason": "end"}, id=NULL),
    ):
        assert protocol.receive(ignored) == []
    client.seq += 7
    assert protocol.receive(client.says("close", {"reason": "disconnect"})) == [Ended()]
    assert client.hears(protocol.closed())["clientseq"] == client.seq


@given(st.decimals(0, 86_400, places=9))
def test_durations_are_read_to_the_nearest_sample_and_written_exactly(seconds: Any) -> None:
    samples = samples_of(f"PT{seconds}S")
    assert abs(samples - seconds * 8_000) <= 0.5
    assert samples_of(duration_of(samples)) == samples
    Media.model_validate(OFFER[0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.text() | st.binary() | JSON.map(json.dumps), max_size=5), st.booleans())
def test_any_garbage_is_an_error_of_the_clients_with_a_code_or_nothing(
    messages: list[str | bytes], begun: bool
) -> None:
    protocol, client = opened() if begun else new()
    for message in messages:
        try:
            events = protocol.receive(message)
        except IngestError as error:
            assert error.close_code in (1003, 1008, 4400, 4415)
            assert client.hears(protocol.disconnect("error", str(error)))["type"] == "disconnect"
        else:
            assert all(isinstance(event, Audio) for event in events)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, int]]:
    return draw(
        st.lists(
            st.tuples(st.sampled_from(["audio", "pause", "discard", "ping", "lose"]), st.integers(1, 4_000)),
            max_size=30,
        )
    )


@settings(max_examples=200)
@given(steps())
def test_the_timeline_is_the_clients_whatever_it_does(script: list[tuple[str, int]]) -> None:
    """Heard and missing samples add up to the client's position, to the slack that audio under way is given."""
    protocol, client = opened()
    heard = missing = lost = 0
    events: list[AudioHookEvent] = []
    for what, samples in script:
        start = client.position
        match what:
            case "audio":
                events += hears(protocol, client, bytes(2 * samples))
            case "pause":
                events += protocol.receive(client.says("paused"))
                client.position += samples
                events += protocol.receive(client.says("resumed", hole(start / 8_000, samples / 8_000)))
            case "discard":
                client.position += samples
                events += protocol.receive(client.says("discarded", hole(start / 8_000, samples / 8_000)))
            case "lose":
                client.position += samples
                lost += samples
            case _:
                events += protocol.receive(client.says("ping"))
        protocol.answers()
    events += protocol.receive(client.says("close", {"reason": "end"}))
    heard = sum(len(event.data) // 2 for event in events if isinstance(event, Audio))
    missing = sum(event.samples for event in events if isinstance(event, Missing))
    assert heard == sum(samples for what, samples in script if what == "audio")
    assert protocol.position == heard + missing
    assert 0 <= client.position - protocol.position <= 8_000
    if not lost:
        assert client.position == protocol.position


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "start": st.sampled_from(["PT0S", "PT1.5S", "PT86400S", "PT9S"]) | JSON,
    "discarded": st.sampled_from(["PT0S", "PT.25S", "PT86400S"]) | JSON,
    "reason": st.sampled_from(["end", "error"]) | JSON,
    "code": st.integers(400, 500) | JSON,
    "message": st.text() | JSON,
    "language": st.just("en-US") | JSON,
}


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(PARAMETERS)),
            st.fixed_dictionaries({}, optional=VALUES),
            st.sampled_from(["PT0S", "PT0.2S", "PT3S", "PT86400S"]),
            st.binary(max_size=8),
        ),
        max_size=12,
    )
)
def test_any_sequence_of_messages_keeps_time_and_order(
    script: list[tuple[str, dict[str, Any], str, bytes]],
) -> None:
    protocol, client = new()
    came: list[AudioHookEvent] = []
    for kind, parameters, position, audio in script:
        parameters = open_parameters() if kind == "open" else parameters
        for message in (client.says(kind, parameters, position=position), audio):
            before = protocol.position
            try:
                came += protocol.receive(message)
            except IngestError as error:
                client.hears(protocol.disconnect("error", str(error)))
            assert protocol.position >= before
            for text in protocol.answers():
                client.hears(text)
            if protocol.close_reason is None and came[-1:] and isinstance(came[-1], Opened):
                client.hears(protocol.opened())
    kinds = [type(event) for event in came]
    assert kinds.count(Opened) <= 1 and kinds.count(Ended) <= 1
    if Audio in kinds or Missing in kinds:
        assert kinds[:2] == [Begun, Opened]
    if Ended in kinds:
        assert kinds[-1] is Ended
