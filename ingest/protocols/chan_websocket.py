"""Asterisk's WebSocket channel (chan_websocket) without the socket: messages in, events out.

Asterisk opens the connection, sends the text event MEDIA_START and then bare media in binary messages, in the codec of
the channel. Control events come as JSON or as one line of plain text, by Asterisk's configuration; both are read.
Facts: Asterisk's documentation, "WebSocket Channel Driver" (20.16, 21.11, 22.6, 23.0 and later), `chan_websocket.c`.

State by message; a cell names the event that comes out and the next state, or the error::

             MEDIA_START      binary         DTMF_END        other event    other text
    START    Opened, MEDIA    BadMessage     BadHello        BadHello       BadHello
    MEDIA    BadMessage       Audio, MEDIA   Marked, MEDIA   MEDIA          BadMessage

The end is the end of the WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from callscope.errors import BadHello, BadMessage
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.events import Audio, Event, Marked, Opened
from ingest.protocols.hello import HELLO_BYTES, UNKNOWN_LEG, given_name, json_object, metadata_of, platform_name

SOURCE: Final = "chan_websocket"
FORMATS: Final[Mapping[str, AudioFormat]] = MappingProxyType(
    {
        "ulaw": AudioFormat("mulaw", 8_000, 1),
        "alaw": AudioFormat("alaw", 8_000, 1),
        "slin": AudioFormat("s16le", 8_000, 1),
        "slin12": AudioFormat("s16le", 12_000, 1),
        "slin16": AudioFormat("s16le", 16_000, 1),
        "slin24": AudioFormat("s16le", 24_000, 1),
        "slin32": AudioFormat("s16le", 32_000, 1),
        "slin44": AudioFormat("s16le", 44_100, 1),
        "slin48": AudioFormat("s16le", 48_000, 1),
        "slin96": AudioFormat("s16le", 96_000, 1),
        "slin192": AudioFormat("s16le", 192_000, 1),
    }
)
"""Asterisk's names of the codecs that can be taken; the others need a decoder, which Asterisk itself has."""
VARIABLE_PREFIX: Final = "CALLSCOPE_"
"""Channel variables of such names are read: CALLSCOPE_CALL_ID, CALLSCOPE_LEG, and others as metadata."""
_EVENT: Final = re.compile(r"[A-Z][A-Z_]{1,63}")
_START: Final = "MEDIA_START"
_DTMF: Final = "DTMF_END"


class ChanWebSocketProtocol:
    """One connection's state.

    Args:
        query: the parameters of the address that was dialled, decoded; `call_id` and `leg` name the stream where no
            channel variable does, the others are metadata.
    """

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query
        self._started = False

    def receive(self, message: str | bytes) -> list[Event]:
        """What a message means.

        Args:
            message: str for a text message, bytes for a binary one.

        Raises:
            BadHello: the first message is not a MEDIA_START that can be served.
            BadMessage: the message is of the wrong kind at this point, or no event of Asterisk's.
        """
        if isinstance(message, bytes):
            if not self._started:
                raise BadMessage("Media came before MEDIA_START. Asterisk sends that event first.")
            return [Audio(message)] if message else []
        event = _parsed(message)
        if not self._started:
            if event is None or event["event"] != _START:
                raise BadHello("The first message must be Asterisk's event MEDIA_START, as JSON or as plain text.")
            opened = self._opened(event)
            self._started = True
            return [opened]
        if event is None:
            raise BadMessage("A text message came that is no event of Asterisk's WebSocket channel.")
        match event["event"]:
            case "MEDIA_START":
                raise BadMessage("A second MEDIA_START came. A connection carries one channel.")
            case "DTMF_END":
                return [Marked("dtmf")]
            case _:  # MEDIA_XOFF, STATUS, ...: about media that we do not send
                return []

    def _opened(self, event: Mapping[str, object]) -> Opened:
        codec = event.get("format")
        audio_format = FORMATS.get(codec) if isinstance(codec, str) else None
        if audio_format is None:
            raise BadHello(
                f"The codec {str(codec)[:32]!r} is not taken. Dial with c(ulaw), c(alaw), c(slin) or c(slin16); "
                "Asterisk converts."
            )
        variables = _variables(event.get("channel_variables"))
        # The variables first: Asterisk 22.10 repeats the v(...) of an earlier call where a later one gives none.
        call_id = variables.pop("call_id", None) or self._query.get("call_id")
        leg = variables.pop("leg", None) or self._query.get("leg")
        own_id = platform_name(event.get("channel_id"))
        if call_id is None and own_id is None:
            raise BadHello("MEDIA_START has no channel_id, and no call_id is given. Add v(call_id=...) when dialling.")
        stream = StreamId(
            given_name(call_id, "call_id") if call_id is not None else own_id or "",
            given_name(leg, "leg") if leg is not None else UNKNOWN_LEG,
        )
        told = {
            **{name: event[name] for name in ("connection_id", "channel", "channel_id") if name in event},
            **{name: value for name, value in self._query.items() if name not in ("call_id", "leg")},
            **variables,
        }
        return Opened((stream,), audio_format, SOURCE, metadata_of(told))


def _parsed(text: str) -> Mapping[str, object] | None:
    """An event, with its name as "event", from either of Asterisk's two formats; None if it is neither."""
    if text.startswith("{"):
        event = json_object(text)
        return event if event is not None and _is_event(event.get("event")) else None
    if len(text) > HELLO_BYTES:
        return None
    name, _, rest = text.partition(" ")
    if not _is_event(name):
        return None
    fields = dict(word.partition(":")[::2] for word in rest.split())
    return {**fields, "event": name}


def _is_event(name: object) -> bool:
    return isinstance(name, str) and _EVENT.fullmatch(name) is not None


def _variables(given: object) -> dict[str, object]:
    """The channel variables meant for us, under their names in lower case without the prefix.

    A variable that was set to be inherited (`__NAME`) may still have its underscores.
    """
    if not isinstance(given, dict):
        return {}
    return {
        name.lstrip("_").removeprefix(VARIABLE_PREFIX).lower(): value
        for name, value in given.items()
        if name.lstrip("_").startswith(VARIABLE_PREFIX)
    }
