"""Genesys AudioHook, version 2, the server's side without the socket: messages in, events and messages out.

State by message; a cell names the event that comes out and the next state. Where a cell says "error", `BadMessage`,
`BadHello` or `BadAudio` is raised, whose text is for `disconnect`; the session then is FAILED::

               open            paused        resumed         discarded   audio          close
    NEW        Opened, OPEN    error         error           error       error          Ended, CLOSING
    OPEN       error           PAUSED        Missing*        Missing*    Audio          Missing*, Ended, CLOSING
    PAUSED     error           —             Missing*, OPEN  Missing*    error          Missing*, Ended, CLOSING
    FAILED     —               —             —               —           —              Ended, CLOSING
    CLOSING    —               —             —               —           —              —

"ping" is answered in NEW, OPEN and PAUSED; "error", "update", "dtmf" are taken in OPEN and PAUSED.

The timeline is the client's. Every text message says the client's position: audio sent, discarded and paused so far.
"discarded" and "resumed" say where audio begins again: that far the hole reaches, but not beyond the position of the
message that tells of it. A position that is ahead of all that came, by more than `SLACK_S`, is audio that got lost
(*: Missing only where the timeline moves). Nothing moves it back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal, TypeAlias

from pydantic import ValidationError

from callscope.errors import BadAudio, BadHello, BadMessage, TooManyMessages
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.protocols.audiohook_messages import (
    NULL_UUID,
    PARAMETERS,
    RATE_HZ,
    Channel,
    ClientMessage,
    Close,
    Error,
    Hole,
    Media,
    Open,
    duration_of,
    parameters_of,
)
from ingest.protocols.events import Audio, Ended, Event, Marked, Missing, MissingReason, Opened
from ingest.protocols.explaining import explained, printable

SOURCE: Final = "audiohook"
TEXT_CHARACTERS: Final = 65_535
"""The longest text message the protocol allows."""
AUDIO_BYTES: Final = 64 * 1024
"""The longest piece of audio that is taken: 4 s of two channels. The vendor sends 0.2 s at a time."""
SLACK_S: Final = 1.0
"""A position may be ahead of the audio by so much, which is under way, before audio counts as lost."""
MESSAGES_PER_S: Final = 20
"""How many text messages are taken a second, for long; the vendor sends one every five."""
MESSAGES_AT_ONCE: Final = 100
"""How many are taken at once."""

DisconnectReason: TypeAlias = Literal["completed", "unauthorized", "error"]


@dataclass(frozen=True, slots=True)
class Begun:
    """The session begins, and "opened" is due. `Opened` follows where audio will come of it."""


@dataclass(frozen=True, slots=True)
class ClientError:
    """The client met an error and says so; the session goes on.

    Attributes:
        code: as in HTTP: 400, 408, 429, ...
        message: one printable line.
    """

    code: int
    message: str


AudioHookEvent: TypeAlias = Event | Begun | ClientError


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    PAUSED = auto()
    FAILED = auto()
    CLOSING = auto()


class AudioHookProtocol:
    """One session's state. `receive` takes what the client sends; the other methods make what it is sent.

    Args:
        session_id: from the handshake's header; every message must bear it.
        organization_id: from the handshake's header; "open" must name it.
        legs: what the channels "external" and "internal" are called; a channel that is not named is not taken.
        now_s: seconds on any clock, for the limit of messages.

    Attributes:
        is_probe: the session only tries the connection: nothing comes of it.
        continued: ids of earlier sessions that this one goes on with.
        opened_at: the position "open" came with, samples at 8 kHz.
        position: how far the stream has come, heard and missing, samples at 8 kHz.
        close_reason: the client's, once it closed: "end", "error", "disconnect", "reconnect".
    """

    def __init__(self, session_id: str, organization_id: str, legs: Mapping[Channel, str], now_s: float = 0.0) -> None:
        self._session_id = session_id
        self._organization_id = organization_id
        self._legs = legs
        self._state = _State.NEW
        self._seq = 0
        self._clientseq = 0
        self._media: Media | None = None
        self._wants_languages = False
        self._answers: list[str] = []
        self._allowance = float(MESSAGES_AT_ONCE)
        self._counted_s = now_s
        self.is_probe = False
        self.continued: tuple[str, ...] = ()
        self.opened_at = 0
        self.position = 0
        self._at = 0
        self.close_reason: str | None = None

    def receive(self, message: str | bytes, now_s: float = 0.0) -> list[AudioHookEvent]:
        """What a message means. `answers` has what is to be sent; `Begun` asks for `opened`, `Ended` for `closed`.

        Args:
            message: str for a text message, bytes for a binary one.
            now_s: seconds on the clock given at the start.

        Raises:
            BadHello: "open" asks for what there is not.
            BadMessage: a message that is none, or has no place here.
            BadAudio: audio that comes at the wrong time, in the wrong size, or without having been agreed on.
            TooManyMessages: text messages come too fast.
        """
        if self._state is _State.CLOSING:
            return []
        if self._state is _State.FAILED:
            return self._after_failure(message)
        try:
            return self._audio(message) if isinstance(message, bytes) else self._told(message, now_s)
        except (BadHello, BadMessage, BadAudio, TooManyMessages):
            self._state = _State.FAILED
            raise

    def answers(self) -> list[str]:
        """The messages that are to be sent now, in order; once only."""
        answers, self._answers = self._answers, []
        return answers

    def opened(self, received_to: int | None = None) -> str:
        """The answer to "open": it names the format that was chosen, which is one of those on offer, or none.

        Args:
            received_to: an earlier session of this conversation was received up to this position, samples at 8 kHz; the
                client is asked to send nothing before it.
        """
        parameters: dict[str, object] = {"media": [self._media.model_dump()] if self._media else []}
        if received_to is not None and received_to > self.opened_at:
            parameters["discardTo"] = duration_of(received_to)
            self.position = received_to
        if self._wants_languages:
            parameters["supportedLanguages"] = []  # these are of transcripts, which are not made
        return self._message("opened", parameters)

    def closed(self) -> str:
        """The answer to "close", and the last message."""
        return self._message("closed", {})

    def disconnect(self, reason: DisconnectReason, info: str = "") -> str:
        """Asks the client to close the session.

        Args:
            reason: "error" also after `receive` raised.
            info: for the client's log.
        """
        if self._state is not _State.CLOSING:
            self._state = _State.FAILED
        return self._message("disconnect", {"reason": reason, **({"info": printable(info)} if info else {})})

    def _told(self, text: str, now_s: float) -> list[AudioHookEvent]:
        self._count(now_s)
        message, parameters = _parsed(text)
        self._check(message)
        match parameters:
            case _ if message.type == "ping":
                self._answers.append(self._message("pong", {}))
            case Close(reason=reason):
                return self._close(message, reason)
            case Open() as opening:
                return self._open(message, opening)
            case _ if self._state is _State.NEW:
                raise BadMessage(f'"{message.type}" came before "open".')
            case Hole() as hole:
                return self._hole(message, hole)
            case Error(code=code, message=said):
                return [*self._catch_up(message), ClientError(code, printable(said))]
        return self._other(message)

    def _other(self, message: ClientMessage) -> list[AudioHookEvent]:
        lost = self._catch_up(message)
        match message.type:
            case "paused":
                self._state = _State.PAUSED
            case "update":
                self._answers.append(self._message("updated", {}))
            case "dtmf":
                return [*lost, Marked("dtmf", self._legs.get("external"))] if self._media else []
        return lost

    def _count(self, now_s: float) -> None:
        grown = self._allowance + (now_s - self._counted_s) * MESSAGES_PER_S
        self._allowance, self._counted_s = min(float(MESSAGES_AT_ONCE), grown), now_s
        if self._allowance < 1:
            raise TooManyMessages(f"More than {MESSAGES_PER_S} text messages a second came.")
        self._allowance -= 1

    def _check(self, message: ClientMessage) -> None:
        if message.seq != self._clientseq + 1:
            raise BadMessage(f'"seq" is {message.seq} and should be {self._clientseq + 1}.')
        if message.serverseq > self._seq:
            raise BadMessage(f'"serverseq" is {message.serverseq}, and only {self._seq} messages were sent.')
        if message.id.lower() != self._session_id.lower():
            raise BadMessage('"id" is not the session that the handshake announced.')
        self._clientseq = message.seq

    def _open(self, message: ClientMessage, opening: Open) -> list[AudioHookEvent]:
        if self._state is not _State.NEW:
            raise BadMessage('"open" came a second time.')
        if opening.organizationId.lower() != self._organization_id.lower():
            raise BadHello('"organizationId" is not the organization that the handshake announced.')
        self._state = _State.OPEN
        self._media = chosen(opening.media, self._legs)
        self._wants_languages = opening.supportedLanguages
        self.is_probe = opening.conversationId == NULL_UUID
        self.continued = tuple(session.id.lower() for session in opening.continuedSessions)
        self.opened_at = self.position = self._at = message.samples
        if self._media is None or self.is_probe:
            return [Begun()]
        call_id = opening.conversationId.lower()
        streams = tuple(StreamId(call_id, self._legs[channel]) for channel in self._media.channels)
        metadata = {
            "organization_id": opening.organizationId,
            "session_id": self._session_id,
            "participant_id": opening.participant.id,
            **({"language": opening.language} if opening.language else {}),
        }
        return [Begun(), Opened(streams, AudioFormat("mulaw", RATE_HZ, len(streams)), SOURCE, metadata)]

    def _audio(self, data: bytes) -> list[AudioHookEvent]:
        if self._state is not _State.OPEN:
            raise BadAudio('Audio came before "open".' if self._state is _State.NEW else "Audio came while paused.")
        if self._media is None:
            raise BadAudio("Audio came, though no format was agreed on.")
        channels = len(self._media.channels)
        if len(data) > AUDIO_BYTES or len(data) % channels:
            raise BadAudio(
                f"A piece of audio has {len(data)} bytes: it must be whole samples of {channels} channel(s), "
                f"{AUDIO_BYTES} bytes at most."
            )
        self._at += len(data) // channels
        new = max(0, min(len(data) // channels, self._at - self.position))  # an earlier session may have brought it
        self.position = max(self.position, self._at)
        return [Audio(data[len(data) - new * channels :])] if new and not self.is_probe else []

    def _hole(self, message: ClientMessage, hole: Hole) -> list[AudioHookEvent]:
        reason: MissingReason = "discarded"
        if message.type == "resumed":
            reason = "paused"
            self._state = _State.OPEN
        return self._advance(min(hole.end, message.samples), reason)

    def _close(self, message: ClientMessage, reason: str) -> list[AudioHookEvent]:
        rest = self._advance(message.samples, "paused") if self._state is _State.PAUSED else self._catch_up(message)
        self._state = _State.CLOSING
        self.close_reason = reason
        return [*rest, Ended()]

    def _catch_up(self, message: ClientMessage) -> list[AudioHookEvent]:
        if self._state is _State.OPEN and message.samples - self.position > SLACK_S * RATE_HZ:
            return self._advance(message.samples, "lost")
        return []

    def _advance(self, to: int, reason: MissingReason) -> list[AudioHookEvent]:
        self._at = max(self._at, to)
        samples = to - self.position
        if samples <= 0:
            return []
        self.position = to
        return [Missing(samples, reason)] if self._media and not self.is_probe else []

    def _after_failure(self, message: str | bytes) -> list[AudioHookEvent]:
        """After "disconnect" only "close" counts, with whatever number it has."""
        if isinstance(message, bytes):
            return []
        try:
            parsed, parameters = _parsed(message)
        except BadMessage:
            return []
        if parsed.id.lower() != self._session_id.lower():
            return []
        self._clientseq = parsed.seq
        if isinstance(parameters, Close):
            self._state = _State.CLOSING
            self.close_reason = parameters.reason
            return [Ended()]
        return []

    def _message(self, kind: str, parameters: Mapping[str, object]) -> str:
        self._seq += 1
        return json.dumps(
            {
                "version": "2",
                "type": kind,
                "id": self._session_id,
                "seq": self._seq,
                "clientseq": self._clientseq,
                "parameters": parameters,
            },
            separators=(",", ":"),
        )


def chosen(offered: list[Media], legs: Mapping[Channel, str]) -> Media | None:
    """The format that is taken: both channels before one, else in the order they are offered; None: none will do.

    L16 is not taken, because the protocol does not say its byte order; the vendor always offers PCMU.

    Args:
        offered: in the client's order of preference.
        legs: the channels wanted, with their names.
    """
    usable = [
        media
        for media in offered
        if media.format == "PCMU"
        and len(set(media.channels)) == len(media.channels)
        and all(channel in legs for channel in media.channels)
    ]
    return max(usable, key=lambda media: len(media.channels), default=None)


def _parsed(text: str) -> tuple[ClientMessage, object]:
    if len(text) > TEXT_CHARACTERS:
        raise BadMessage(f"A text message has {len(text)} characters, and {TEXT_CHARACTERS} are allowed.")
    try:
        message = ClientMessage.model_validate_json(text)
    except ValidationError as error:
        raise BadMessage("A message is not one of AudioHook: " + explained(error)) from error
    if message.type not in PARAMETERS:
        raise BadMessage(f"There is no message {printable(message.type)!r}.")
    try:
        return message, parameters_of(message)
    except ValidationError as error:
        raise BadMessage(f'The parameters of "{message.type}" are wrong: ' + explained(error)) from error
