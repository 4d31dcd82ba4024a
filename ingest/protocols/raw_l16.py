"""A JSON hello and raw 16-bit audio over a WebSocket, as FreeSWITCH's modules, jambonz and Vonage send it: one core.

All of them send (or may send) one text first, then binary messages of signed 16-bit little-endian samples, interleaved
where there are two channels. What differs is in the table of dialects below.

State by message; a cell names the events that come out and the next state, or the error::

              text                           binary
    HELLO     Opened, AUDIO (or BadHello)    Opened, Audio, AUDIO where the dialect needs no hello, else BadMessage
    AUDIO     Marked for a pressed key;      Audio, AUDIO
              Ended, DONE for a farewell;
              else nothing, or BadMessage where the dialect knows JSON only
    DONE      nothing                        nothing

Otherwise the end is the end of the WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from callscope.errors import BadHello, BadMessage
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Ended, Event, Marked, Opened
from ingest.protocols.hello import (
    HELLO_BYTES,
    UNKNOWN_LEG,
    given_legs,
    given_name,
    json_object,
    metadata_of,
    platform_name,
)

RATES_HZ: Final = (8_000, 16_000, 24_000, 32_000, 44_100, 48_000, 64_000)
_CHANNELS: Final[Mapping[str, int]] = MappingProxyType({"mono": 1, "mixed": 1, "stereo": 2})
_OWN_FIELDS: Final = ("call_id", "leg", "legs")
"""What the operator adds to the hello or to the address to name the streams."""
_CONTENT_TYPE: Final = re.compile(r"audio/l16\s*;\s*rate=(\d{1,6})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one platform says hello, and what may follow.

    Attributes:
        name: the platform; the `source` of its calls, and the last part of the path it connects to.
        subprotocol: the WebSocket subprotocol it asks for.
        needs_hello: a JSON text must come first; otherwise a text may come, of any kind.
        event: the field and value by which the hello can be told, if there is one.
        call_id: the field of the hello with the platform's own id of the call.
        rate: the field of the hello with the rate, Hz or a content type.
        mix: the field of the hello with "mono", "mixed" or "stereo"; None: always mono.
        legs: who speaks where nobody named them: on the one channel of mono, of mixed, on the two of stereo.
        key_pressed: the "event" of a later text that tells of a pressed key.
        farewells: the "event" or "type" of a later text that means the end.
        json_only: later texts that are no JSON objects are errors.
    """

    name: str
    subprotocol: str | None
    needs_hello: bool
    event: tuple[str, str] | None
    call_id: str | None
    rate: str
    mix: str | None
    legs: Mapping[str, str]
    key_pressed: str
    farewells: tuple[str, ...] = ()
    json_only: bool = True


_FREESWITCH_LEGS: Final = MappingProxyType({"mono": "caller", "mixed": "mixed", "stereo": "caller,callee"})
"""What mod_audio_fork's and mod_audio_stream's pages say is on the channels."""

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        dialect.name: dialect
        for dialect in (
            Dialect(
                # https://docs.jambonz.org/verbs/verbs/listen
                name="jambonz",
                subprotocol="audio.jambonz.org",
                needs_hello=True,
                event=None,
                call_id="callSid",
                rate="sampleRate",
                mix="mixType",
                legs=_FREESWITCH_LEGS,
                key_pressed="dtmf",
                farewells=("disconnect",),
            ),
            Dialect(
                # https://github.com/drachtio/drachtio-freeswitch-modules/tree/main/modules/mod_audio_fork
                name="mod_audio_fork",
                subprotocol="audio.drachtio.org",
                needs_hello=False,
                event=None,
                call_id="callid",
                rate="sampleRate",
                mix="mixType",
                legs=_FREESWITCH_LEGS,
                key_pressed="dtmf",
                farewells=("disconnect",),
                json_only=False,
            ),
            Dialect(
                # https://github.com/amigniter/mod_audio_stream
                name="mod_audio_stream",
                subprotocol=None,
                needs_hello=False,
                event=None,
                call_id="callid",
                rate="sampleRate",
                mix="mixType",
                legs=_FREESWITCH_LEGS,
                key_pressed="dtmf",
                farewells=("disconnect",),
                json_only=False,
            ),
            Dialect(
                # https://developer.vonage.com/en/voice/voice-api/guides/websockets
                name="vonage",
                subprotocol=None,
                needs_hello=True,
                event=("event", "websocket:connected"),
                call_id="conversation_uuid",
                rate="content-type",
                mix=None,
                legs=MappingProxyType({"mono": UNKNOWN_LEG}),
                key_pressed="websocket:dtmf",
            ),
        )
    }
)
"""By name."""


class _State(Enum):
    HELLO = auto()
    AUDIO = auto()
    DONE = auto()


class RawL16Protocol:
    """One connection's state.

    Args:
        dialect: who speaks.
        query: the parameters of the address it came by, decoded: `call_id`, `leg` or `legs`, and where the hello does
            not say them `rate` and `mix`.
        fallback_call_id: the call's id where nobody gives one.
    """

    def __init__(self, dialect: Dialect, query: Mapping[str, str], fallback_call_id: str) -> None:
        self._dialect = dialect
        self._query = query
        self._fallback_call_id = fallback_call_id
        self._state = _State.HELLO

    def receive(self, message: str | bytes) -> list[Event]:
        """What a message means.

        Args:
            message: str for a text message, bytes for a binary one.

        Raises:
            BadHello: the opening does not say what must be known, or something impossible.
            BadMessage: the message is of the wrong kind at this point.
        """
        match self._state:
            case _State.HELLO:
                return self._first(message)
            case _State.AUDIO:
                if isinstance(message, str):
                    return self._text(message)
                return [Audio(message)] if message else []
            case _State.DONE:
                return []

    def _first(self, message: str | bytes) -> list[Event]:
        if isinstance(message, str):
            opened = self._opened(self._hello(message))
            self._state = _State.AUDIO
            return [opened]
        if self._dialect.needs_hello:
            raise BadMessage(f"Binary data came before the hello. {self._dialect.name} sends a JSON text first.")
        opened = self._opened({})
        self._state = _State.AUDIO
        return [opened, *self.receive(message)]

    def _hello(self, text: str) -> Mapping[str, object]:
        dialect = self._dialect
        hello = json_object(text)
        if hello is None:
            if dialect.needs_hello:
                raise BadHello(
                    f"The first text is no JSON object of at most {HELLO_BYTES} bytes; {dialect.name} sends one."
                )
            return {"text": text}
        if dialect.event is not None and hello.get(dialect.event[0]) != dialect.event[1]:
            raise BadHello(
                f'The first text does not say "{dialect.event[0]}": "{dialect.event[1]}", as {dialect.name}\'s does.'
            )
        return hello

    def _opened(self, hello: Mapping[str, object]) -> Opened:
        dialect = self._dialect
        mix = self._mix(hello)
        audio_format = AudioFormat("s16le", self._rate_hz(hello), _CHANNELS[mix])
        call_id = self._given("call_id", hello)
        name = (
            given_name(call_id, "call_id")
            if call_id is not None
            else platform_name(hello.get(dialect.call_id or "")) or self._fallback_call_id
        )
        legs = self._given("legs", hello) or self._given("leg", hello) or dialect.legs[mix]
        if isinstance(legs, list):
            legs = ",".join(str(leg) for leg in legs)
        told = {
            **{key: value for key, value in self._query.items() if key not in (*_OWN_FIELDS, "rate", "mix")},
            **{key: value for key, value in hello.items() if key not in (*_OWN_FIELDS, "event")},
        }
        streams = tuple(StreamId(name, leg) for leg in given_legs(str(legs), audio_format.channels))
        return Opened(streams, audio_format, dialect.name, metadata_of(told))

    def _given(self, field: str, hello: Mapping[str, object]) -> object:
        """What the operator says: in the address, or else in the hello."""
        return self._query.get(field) or hello.get(field)

    def _mix(self, hello: Mapping[str, object]) -> str:
        if self._dialect.mix is None:
            return "mono"
        mix = hello.get(self._dialect.mix) or self._query.get("mix")
        if mix is None:
            raise BadHello(
                'Nothing says how many channels there are. Add "mix=mono", "mix=mixed" or "mix=stereo" to the URL.'
            )
        if not isinstance(mix, str) or mix not in _CHANNELS:
            raise BadHello(f"The mix {str(mix)[:32]!r} is not known; it is one of {', '.join(_CHANNELS)}.")
        return mix

    def _rate_hz(self, hello: Mapping[str, object]) -> int:
        said = hello.get(self._dialect.rate) or self._query.get("rate")
        if said is None:
            raise BadHello(f'Nothing says the rate of the audio. Add "rate=8000" to the URL (one of {_rates()}).')
        rate_hz = _hertz(said)
        if rate_hz not in RATES_HZ:
            raise BadHello(f"The rate {str(said)[:64]!r} is not taken; it is one of {_rates()} Hz.")
        return rate_hz

    def _text(self, message: str) -> list[Event]:
        text = json_object(message)
        if text is None:
            if self._dialect.json_only:
                raise BadMessage(f"A text came that is no JSON object; {self._dialect.name} sends none.")
            return []
        if text.get("event") == self._dialect.key_pressed:
            return [Marked("dtmf")]
        if text.get("event") in self._dialect.farewells or text.get("type") in self._dialect.farewells:
            self._state = _State.DONE
            return [Ended()]
        return []


def _hertz(said: object) -> int | None:
    """The rate in Hz: of 16000, "16000", "16k" or "audio/l16;rate=16000"."""
    if isinstance(said, int):
        return said
    if not isinstance(said, str):
        return None
    if content_type := _CONTENT_TYPE.fullmatch(said.strip()):
        return int(content_type[1])
    if plain := re.fullmatch(r"(\d{1,6})(k?)", said.strip(), re.ASCII):
        return int(plain[1]) * (1_000 if plain[2] else 1)
    return None


def _rates() -> str:
    return ", ".join(str(rate_hz) for rate_hz in RATES_HZ)
