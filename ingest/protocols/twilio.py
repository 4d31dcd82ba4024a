"""Twilio Media Streams and its dialects, without the socket: messages in, events out (docs/protocols/twilio.md).

State by message; a cell names the events that come out and the next state, or the error. "Other" is any further event
a platform may tell of (mark, playedStream, clearedAudio, error, ...); nothing is to be done about it::

               connected  start         media                   dtmf        stop         other    no JSON object
    WAITING    WAITING    Opened, OPEN  BadMessage              BadMessage  BadMessage   WAITING  BadHello
    OPEN       OPEN       BadMessage    Opened, Missing, Audio  Marked      Ended, DONE  OPEN     BadMessage
    DONE       BadMessage, as is a binary message in every state

One connection carries one stream of the platform: the tracks of one leg of a call. Each track becomes a leg here, with
a timeline of its own that begins with the platform's stream. A track that `start` does not announce opens with its
first audio.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

import numpy as np

from callscope.errors import BadAudio, BadHello, BadMessage
from callscope.streams import StreamId
from ingest.protocols.events import Audio, Ended, Event, Marked, Missing, Opened
from ingest.protocols.placing import Piece, Track
from ingest.protocols.twilio_start import Start, read_start, track_name

NEAR_MS: Final = 60_000
"""Where the first timestamp is later than this, timestamps do not count from the stream's beginning (Plivo's count from
1970), and the first one is taken for it."""
_LONGEST_NUMBER: Final = 20


class _State(Enum):
    WAITING = auto()
    OPEN = auto()
    DONE = auto()


class TwilioProtocol:
    """One connection's state. Nothing is ever sent to the platform: this end only listens.

    Args:
        legs: the leg that the track "inbound" and the track "outbound" carry.
        reorder_window_ms: how much audio of a track may wait for a missing chunk before that is given up.

    Attributes:
        start: what the platform said of the stream; None until it did.
        unheeded: messages of kinds that need no action.
    """

    def __init__(self, legs: Mapping[str, str], reorder_window_ms: int) -> None:
        self._legs = legs
        self._window_ms = reorder_window_ms
        self._state = _State.WAITING
        self._tracks: dict[str, Track] = {}
        self._origin_ms: int | None = None
        self._highest = 0
        self._received = 0
        self.start: Start | None = None
        self.unheeded = 0

    @property
    def late(self) -> int:
        """Chunks of audio that came too late, or twice, and were left out."""
        return sum(track.late for track in self._tracks.values())

    @property
    def unseen(self) -> int:
        """Messages that did not come, by their sequence numbers."""
        return max(0, self._highest - self._received)

    def receive(self, message: str | bytes) -> list[Event]:
        """What a message means; often nothing yet.

        Args:
            message: str for a text message, bytes for a binary one.

        Raises:
            BadHello: the stream cannot be served.
            BadMessage: the message is of the wrong kind at this point, or none of the protocol.
            BadAudio: the audio is not base64, or ends inside a sample.
        """
        said = self._parsed(message)
        kind = said["event"]
        if self._state is _State.DONE:
            raise BadMessage("A message came after the stop. Open another connection for another stream.")
        if kind == "media" and self.start is not None:
            return self._media(said, self.start)
        match kind:
            case "start":
                return self._start(said)
            case "media" | "dtmf" | "stop" if self.start is None:
                raise BadMessage(f"A {kind} message came before the start message.")
            case "dtmf":
                return self._dtmf(said)
            case "stop":
                self._count(said)
                return self.closed()
            case "connected":
                return []
            case _:
                self._count(said)
                self.unheeded += 1
                return []

    def closed(self) -> list[Event]:
        """What was held back, and the end: the platform stopped the stream, or closed the connection."""
        assert self.start is not None
        self._state = _State.DONE
        events: list[Event] = []
        for name, track in self._tracks.items():
            events += _events(track.flush(), self.start.legs[name])
        return [*events, Ended()]

    def _parsed(self, message: str | bytes) -> dict[str, Any]:
        wrong = BadHello if self._state is _State.WAITING else BadMessage
        if isinstance(message, bytes):
            raise BadMessage("A binary message came. All messages of this protocol are JSON text.")
        try:
            said = json.loads(message)
        except (ValueError, RecursionError):
            raise wrong("A message is not JSON.") from None
        if not isinstance(said, dict) or not isinstance(said.get("event"), str):
            raise wrong('A message is not a JSON object with an "event".')
        return said

    def _start(self, said: dict[str, Any]) -> list[Event]:
        if self.start is not None:
            raise BadMessage("A second start message came. Open another connection for another stream.")
        self.start = read_start(said, self._legs)
        self._state = _State.OPEN
        self._count(said)
        return [self._open(name, self.start) for name in self.start.tracks]

    def _open(self, name: str, start: Start) -> Opened:
        audio_format = start.audio_format
        self._tracks[name] = Track(audio_format.rate_hz, audio_format.step_bytes, self._window_ms)
        return Opened((StreamId(start.call_id, start.legs[name]),), audio_format, start.vendor, start.metadata)

    def _media(self, said: dict[str, Any], start: Start) -> list[Event]:
        self._count(said)
        media = said.get("media")
        if not isinstance(media, dict):
            raise BadMessage('A media message has no object "media".')
        name = _track(media)
        events: list[Event] = [] if name in self._tracks else [self._open(name, start)]
        data = _samples(media.get("payload"), start)
        timestamp_ms = _number(media, "timestamp")
        if timestamp_ms is not None:
            if self._origin_ms is None:
                self._origin_ms = timestamp_ms if timestamp_ms > NEAR_MS else 0
            timestamp_ms -= self._origin_ms
        pieces = self._tracks[name].push(_number(media, "chunk"), timestamp_ms, data)
        return events + _events(pieces, start.legs[name])

    def _dtmf(self, said: dict[str, Any]) -> list[Event]:
        """A key was pressed. Which one is read nowhere."""
        assert self.start is not None
        self._count(said)
        body = said.get("dtmf")
        name = _track(body if isinstance(body, dict) else {})
        if name in self._tracks:
            return [Marked("dtmf", self.start.legs[name])]
        return [Marked("dtmf")] if self._tracks else []

    def _count(self, said: dict[str, Any]) -> None:
        number = _number(said, "sequenceNumber" if "sequenceNumber" in said else "sequence_number")
        if number is not None:
            self._received += 1
            self._highest = max(self._highest, number)


def _track(body: Mapping[str, Any]) -> str:
    try:
        return track_name(body.get("track"))
    except BadHello as error:
        raise BadMessage(str(error)) from None


def _number(body: Mapping[str, Any], name: str) -> int | None:
    """A counter, which most platforms write as a string.

    Raises:
        BadMessage: it is none.
    """
    written = body.get(name)
    if written is None:
        return None
    if isinstance(written, str) and len(written) <= _LONGEST_NUMBER and written.isascii() and written.isdecimal():
        return int(written)
    if type(written) is int and 0 <= written < 10**_LONGEST_NUMBER:
        return written
    raise BadMessage(f"The {name} of a message is not a number from 0.")


def _samples(payload: object, start: Start) -> bytes:
    if not isinstance(payload, str):
        raise BadMessage("A media message has no payload.")
    try:
        data = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError as error:
        raise BadAudio(f"The payload of a media message is not base64: {error}.") from None
    if len(data) % start.audio_format.step_bytes:
        raise BadAudio(f"The payload of a media message ends inside a sample: it has {len(data)} bytes.")
    if start.big_endian and start.audio_format.encoding == "s16le":
        return np.frombuffer(data, ">i2").astype("<i2").tobytes()
    return data


def _events(pieces: list[Piece], leg: str) -> list[Event]:
    return [Missing(piece, "lost", leg) if isinstance(piece, int) else Audio(piece, leg) for piece in pieces]
