"""Callscope's own WebSocket protocol, without the socket: messages in, events out. docs/protocols.md is its contract.

State by message; a cell names the event that comes out and the next state, or the error::

                 text hello         binary            text consent       text end       other text
    HELLO        Opened, AUDIO      BadMessage        BadHello           BadHello       BadHello
    AUDIO        BadMessage         Audio, AUDIO      Consented, AUDIO   Ended, DONE    BadMessage
    DONE         BadMessage         BadMessage        BadMessage         BadMessage     BadMessage

The text "at" is Placed in AUDIO, and an error elsewhere, as a consent is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from callscope.errors import BadAudio, BadHello, BadMessage, IngestError
from callscope.streams import NAME, StreamId
from ingest.audio.framing import AudioFormat
from ingest.audio.resample import RATE_HZ
from ingest.protocols.events import Audio, Consented, Ended, Event, Opened, Placed
from ingest.protocols.explaining import explained, printable
from ingest.protocols.recorded import RecordedOpus

SOURCE: Final = "websocket"
HELLO_BYTES: Final = 64 * 1024
"""The longest hello, UTF-8 bytes: 32 metadata entries of the longest kind fit twice."""
REASON_BYTES: Final = 123
"""The longest reason of a close frame, RFC 6455 section 5.5."""

Name = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
"""A call id or the name of a leg; it has no slash, because a stream id is `<call id>/<leg>`."""


class Hello(BaseModel):
    """The client's first message."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["hello"]
    call_id: Name
    leg: Name | None = None
    legs: Annotated[list[Name], Field(min_length=1, max_length=2)] | None = None
    encoding: Literal["s16le", "mulaw", "alaw", "webm-opus", "ogg-opus"]
    rate_hz: Literal[8_000, 16_000, 24_000, 44_100, 48_000]
    channels: Literal[1, 2] = 1
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=64)],
            Annotated[str, StringConstraints(max_length=256)],
        ],
        Field(max_length=32),
    ] = {}

    resumable: bool = False
    resume: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None

    @model_validator(mode="after")
    def _one_name_per_channel(self) -> Hello:
        if (self.leg is None) == (self.legs is None):
            raise ValueError('name the audio either with "leg" (one channel) or with "legs" (a list), not both')
        if len(set(self.leg_names)) != self.channels:
            raise ValueError(
                f"{self.channels} channel(s) need as many different legs, and {len(set(self.leg_names))} are named"
            )
        return self

    @model_validator(mode="after")
    def _recordings_are_of_one_leg(self) -> Hello:
        if self.encoding in ("webm-opus", "ogg-opus") and (self.rate_hz, self.channels) != (48_000, 1):
            raise ValueError(f"{self.encoding} has rate_hz 48000 and one channel")
        if self.encoding in ("webm-opus", "ogg-opus") and (self.resumable or self.resume is not None):
            raise ValueError(f"{self.encoding} cannot be resumed: begin another recording as another stream")
        return self

    @property
    def leg_names(self) -> tuple[str, ...]:
        """One per channel, in order."""
        return (self.leg,) if self.leg is not None else tuple(self.legs or ())


class Consent(BaseModel):
    """The client's word that a speaker allowed or refused analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["consent"]
    leg: Name | None = None
    analyse: bool
    purposes: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]], Field(max_length=16)
    ] = []


class At(BaseModel):
    """The client's word where in its timeline the audio that follows begins."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["at"]
    sample: Annotated[int, Field(ge=0, lt=1 << 48)]


class _State(Enum):
    HELLO = auto()
    AUDIO = auto()
    DONE = auto()


class WebSocketProtocol:
    """One connection's state. `receive` takes what the client sends; the other methods make what it is sent.

    Attributes:
        resumable: the hello asked for a session that can be resumed.
        resume: the token of the session the hello wants to go on with; None for a new stream.
    """

    def __init__(self) -> None:
        self._state = _State.HELLO
        self.resumable = False
        self.resume: str | None = None
        self._acknowledged: dict[StreamId, tuple[int, int]] = {}
        self._recorded: RecordedOpus | None = None

    def receive(self, message: str | bytes) -> list[Event]:
        """What a message means: one event each, but for chunks of a recording, which may be any number of packets.

        Args:
            message: str for a text message, bytes for a binary one.

        Raises:
            BadHello: the first text is not a hello that can be served.
            BadMessage: the message is of the wrong kind at this point.
            BadAudio: the recording is not of the kind that was announced, or ends inside a packet.
        """
        match self._state:
            case _State.HELLO:
                return [self._hello(message)]
            case _State.AUDIO if self._recorded is not None and isinstance(message, bytes):
                return list(self._recorded.push(message))
            case _State.AUDIO:
                return [Audio(message) if isinstance(message, bytes) else self._told(message)]
            case _State.DONE:
                raise BadMessage('A message came after {"type":"end"}. Open another connection for another stream.')

    def _hello(self, message: str | bytes) -> Opened:
        if isinstance(message, bytes):
            raise BadMessage("Binary data came before the hello. Send the JSON hello as the first, text, message.")
        if len(message.encode(errors="replace")) > HELLO_BYTES:
            raise BadHello(f"The hello is longer than {HELLO_BYTES} bytes.")
        try:
            hello = Hello.model_validate_json(message)
        except ValidationError as error:
            raise BadHello("The hello cannot be served: " + explained(error)) from error
        streams = tuple(StreamId(hello.call_id, leg) for leg in hello.leg_names)
        self._state = _State.AUDIO
        self.resume = hello.resume
        self.resumable = hello.resumable or hello.resume is not None
        self._acknowledged = dict.fromkeys(streams, (0, 0))
        if hello.encoding == "webm-opus" or hello.encoding == "ogg-opus":
            self._recorded = RecordedOpus(hello.encoding)
            audio_format = AudioFormat("opus", hello.rate_hz, hello.channels)
        else:
            audio_format = AudioFormat(hello.encoding, hello.rate_hz, hello.channels)
        return Opened(streams, audio_format, SOURCE, hello.metadata)

    def _told(self, message: str) -> Consented | Placed | Ended:
        try:
            parsed = json.loads(message)
        except (ValueError, RecursionError):
            parsed = None
        if parsed == {"type": "end"}:
            if self._recorded is not None and self._recorded.incomplete_bytes:
                raise BadAudio(
                    f"The recording ends inside a packet: {self._recorded.incomplete_bytes} byte(s) are left over. "
                    "Send the last chunk, which comes after the recorder was stopped, before the end."
                )
            self._state = _State.DONE
            return Ended()
        if isinstance(parsed, dict) and parsed.get("type") == "consent":
            return self._consent(message)
        if isinstance(parsed, dict) and parsed.get("type") == "at":
            try:
                return Placed(At.model_validate_json(message).sample)
            except ValidationError as error:
                raise BadMessage("The place cannot be taken: " + explained(error)) from error
        raise BadMessage(
            'A text message came where audio belongs. Only {"type":"end"}, {"type":"consent",...} and '
            '{"type":"at",...} may.'
        )

    def _consent(self, message: str) -> Consented:
        try:
            consent = Consent.model_validate_json(message)
        except ValidationError as error:
            raise BadMessage("The consent cannot be taken: " + explained(error)) from error
        legs = [stream.leg for stream in self._acknowledged]
        if consent.leg is not None and consent.leg not in legs:
            raise BadMessage(f"The consent is about leg {consent.leg!r}; this connection carries {legs}.")
        return Consented(consent.leg, consent.analyse, tuple(consent.purposes))

    def ready(self, ack_interval_s: float, session: str | None = None, resume_s: float = 0, received: int = 0) -> str:
        """The answer to the hello, once the streams are open.

        Args:
            ack_interval_s: how often it may hear what is safe.
            session: the token to resume with; None for a stream that cannot be.
            resume_s: how long a cut-off client may be away.
            received: how much of its timeline is there, samples per channel at its rate.
        """
        more = {} if session is None else {"session": session, "resume_s": resume_s, "received": received}
        streams = [str(stream) for stream in self._acknowledged]
        return _json(type="ready", streams=streams, ack_interval_s=ack_interval_s, **more)

    def ack(
        self, published: Mapping[StreamId, int], kept: Mapping[StreamId, int], *, again: bool = False
    ) -> str | None:
        """How far each stream is safe, or None where that is what the client knows already.

        Args:
            published: media time up to which Kafka has acknowledged every record, samples.
            kept: media time up to which every record is there or on the gateway's disk, samples.
            again: also where the client knows it, if some of it is on the disk only: a sign of life.
        """
        known = {stream: (at, kept[stream]) for stream, at in published.items()}
        if known == self._acknowledged and not (again and dict(published) != dict(kept)):
            return None
        self._acknowledged = known
        return _json(
            type="ack",
            streams={
                str(stream): {"published_s": at / RATE_HZ} | ({"kept_s": on_disk / RATE_HZ} if on_disk > at else {})
                for stream, (at, on_disk) in known.items()
            },
        )

    def consented(self, consented: Consented, since: Mapping[StreamId, int]) -> str:
        """The answer to a consent, once Kafka has it.

        Args:
            consented: what was said.
            since: media time of each stream it is about, from which on it holds, samples.
        """
        return _json(
            type="consented",
            analyse=consented.allowed,
            purposes=list(consented.purposes),
            streams={str(stream): {"since_s": at / RATE_HZ} for stream, at in since.items()},
        )

    def ended(self, published: Mapping[StreamId, int], padded: int) -> str:
        """The answer to the end, once all is published.

        Args:
            published: length of each stream, samples, with the silence that fills its last frame.
            padded: how many samples of silence that is.
        """
        return _json(
            type="ended",
            streams={
                str(stream): {
                    "published_s": at / RATE_HZ,
                    "duration_s": (at - padded) / RATE_HZ,
                    "padded_s": padded / RATE_HZ,
                }
                for stream, at in published.items()
            },
        )


def error_message(error: IngestError) -> str:
    """The text message that goes before the close frame."""
    return _json(
        type="error",
        code=error_code(error),
        close_code=error.close_code,
        retriable=error.retriable,
        message=printable(str(error)),
    )


def error_code(error: IngestError) -> str:
    """The error's name on the wire: `bad_hello` for BadHello."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()


def close_reason(text: str) -> str:
    """`text` cut to what a close frame holds, 123 bytes of UTF-8, never inside a character."""
    return printable(text).encode(errors="replace")[:REASON_BYTES].decode(errors="ignore")


def _json(**fields: object) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
