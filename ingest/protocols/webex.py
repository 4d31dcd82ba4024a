"""Webex Contact Center's media forking, without gRPC: pieces of both legs in, events placed by their capture times out.

Schema: schemas/webex/conversationaudioforking.proto. One call of `StreamConversationAudio` carries every leg of one
conversation, mono, in pieces of any length. All legs have one clock: media time 0 of the conversation is the capture
time of its first piece, and a leg that joins later begins with so much missing.

Within a leg pieces follow one another without a seam as long as their capture times say so to within 200 ms; a slow
difference between the sample clock and the wall clock is followed. A jump ahead is audio that is missing. A jump back
is a wall clock that was set, and moves nothing; but after a reconnect it is audio that had come already, and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from callscope.errors import BadAudio, BadHello, BadMessage, IngestError
from callscope.streams import StreamId, is_name
from ingest.audio.framing import AudioFormat, Encoding
from ingest.protocols.events import Audio, Ended, Event, Missing, Opened
from schemas.webex.conversationaudioforking_pb2 import (
    AGENT,
    ALAW,
    CALLER,
    ERROR_INVALID_AUDIO_FORMAT,
    ERROR_NONE,
    ERROR_STREAM_FAILURE,
    LINEAR16,
    MULAW,
    AudioStream,
    ConversationAudioForkingRequest,
    ConversationAudioForkingResponse,
)

SOURCE: Final = "webex"
RATES_HZ: Final = (8_000, 16_000)
MAX_LEGS: Final = 8
"""Legs of one conversation: conferences and whispers have more than two."""
TOLERANCE_NS: Final = 200_000_000
"""Capture times that differ by less from the count of samples are jitter."""
STEADY_NS: Final = 5_000_000
REPEATED_NS: Final = 60 * 1_000_000_000
"""A source that reconnects sends at most so much again; a longer jump back is a wall clock that was set."""
FORWARD_STEP_NS: Final = 3_600 * 1_000_000_000
"""A longer jump ahead is a wall clock that was set."""
_JOIN_NS: Final = 24 * FORWARD_STEP_NS
_LATEST_S: Final = 1 << 33

_ENCODINGS: Final[Mapping[int, Encoding]] = {LINEAR16: "s16le", MULAW: "mulaw", ALAW: "alaw"}
_ROLES: Final[Mapping[int, str]] = {CALLER: "customer", AGENT: "agent"}


@dataclass(slots=True)
class _Leg:
    """A leg's format, and where its next sample belongs.

    Attributes:
        stream: its name.
        audio_format: how its pieces are written.
        origin_ns: capture time of its media time 0; None where the source gives no capture times.
        samples: its samples so far at its own rate, missing ones included.
        shed: samples that were discarded since its last piece.
        repeats: after a reconnect, until a piece is new: pieces may have come before.
    """

    stream: StreamId
    audio_format: AudioFormat
    origin_ns: int | None
    samples: int = 0
    shed: int = 0
    repeats: bool = False

    def nanoseconds(self, samples: int) -> int:
        return samples * 1_000_000_000 // self.audio_format.rate_hz

    def samples_in(self, nanoseconds: int) -> int:
        return (nanoseconds * self.audio_format.rate_hz + 500_000_000) // 1_000_000_000


class WebexStream:
    """One conversation's state. It outlives a connection that broke: see `reconnected`.

    Attributes:
        organisation: whose contact centre it is, from the first message.
    """

    def __init__(self) -> None:
        self.organisation = ""
        self._conversation: str | None = None
        self._origin_ns: int | None = None
        self._legs: dict[tuple[int, str], _Leg] = {}

    @property
    def conversation(self) -> str | None:
        """The conversation's id, which is the call's; None before the first message."""
        return self._conversation

    def reconnected(self) -> None:
        """The conversation goes on over another connection; its first pieces may be such as had come before."""
        for leg in self._legs.values():
            leg.repeats = True

    def receive(self, request: ConversationAudioForkingRequest) -> list[Event]:
        """What a message means: a leg that was not heard before is opened first.

        Raises:
            BadHello: the first message names no conversation that can be served.
            BadMessage: a later one contradicts it, or there are too many legs.
            BadAudio: the audio's format is not one of the schema's, or changed.
        """
        self._check_conversation(request)
        if not request.HasField("audio") or not request.audio.audio_data:
            return []
        audio = request.audio
        captured_ns = _captured_ns(audio)
        events: list[Event] = []
        leg = self._legs.get((audio.role, audio.role_id))
        audio_format = _format_of(audio)
        if leg is None:
            leg = self._open(audio, audio_format, captured_ns)
            metadata = {"customer_org_id": self.organisation[:256], "role_id": audio.role_id[:256]}
            events.append(Opened((leg.stream,), audio_format, SOURCE, metadata))
        elif leg.audio_format != audio_format:
            raise BadAudio(
                f"The audio of {leg.stream} changed from {leg.audio_format.encoding} at {leg.audio_format.rate_hz} Hz "
                f"to {audio_format.encoding} at {audio_format.rate_hz} Hz within the conversation."
            )
        return events + self._place(leg, audio.audio_data, captured_ns)

    def shed(self, request: ConversationAudioForkingRequest) -> None:
        """A message came and had to be discarded unread; its leg's next piece will tell of the hole."""
        leg = self._legs.get((request.audio.role, request.audio.role_id))
        if leg is not None:
            leg.shed += len(request.audio.audio_data) // leg.audio_format.step_bytes

    def half_closed(self) -> Ended:
        """The conversation is over.

        Raises:
            BadHello: nothing came.
        """
        if self._conversation is None:
            raise BadHello("The call was half-closed before any message came.")
        return Ended()

    def _check_conversation(self, request: ConversationAudioForkingRequest) -> None:
        if self._conversation is None:
            if not is_name(request.conversation_id):
                raise BadHello(
                    f"conversation_id is {request.conversation_id[:64]!r}; it must be 1 to 128 of "
                    "A-Z a-z 0-9 . _ : @ + -"
                )
            self._conversation, self.organisation = request.conversation_id, request.customer_org_id
        elif request.conversation_id != self._conversation:
            raise BadMessage(
                f"A message is of conversation {request.conversation_id[:64]!r}, this call is {self._conversation}."
            )

    def _open(self, audio: AudioStream, audio_format: AudioFormat, captured_ns: int | None) -> _Leg:
        if len(self._legs) >= MAX_LEGS:
            raise BadMessage(f"The conversation has more than {MAX_LEGS} legs.")
        assert self._conversation is not None
        role = _ROLES.get(audio.role)
        if role is None:
            raise BadMessage(f"A piece of audio has role {audio.role}, which is neither CALLER nor AGENT.")
        others = sum(known == audio.role for known, _ in self._legs)
        name = role if not others else f"{role}-{others + 1}"
        if self._origin_ns is None:
            self._origin_ns = captured_ns
        origin_ns = None
        if captured_ns is not None and self._origin_ns is not None:
            origin_ns = min(captured_ns, self._origin_ns)
            if captured_ns - origin_ns > _JOIN_NS:
                origin_ns = captured_ns
        leg = _Leg(StreamId(self._conversation, name), audio_format, origin_ns)
        self._legs[audio.role, audio.role_id] = leg
        return leg

    def _place(self, leg: _Leg, data: bytes, captured_ns: int | None) -> list[Event]:
        events: list[Event] = []
        step = leg.audio_format.step_bytes
        if leg.shed:
            events.append(Missing(leg.shed, "discarded", leg.stream.leg))
            leg.samples += leg.shed
            leg.shed = 0
        if captured_ns is not None:
            if leg.origin_ns is None:
                leg.origin_ns = captured_ns - leg.nanoseconds(leg.samples)
            ahead_ns = captured_ns - leg.origin_ns - leg.nanoseconds(leg.samples)
            if leg.repeats and -REPEATED_NS <= ahead_ns < -STEADY_NS:
                known = min(len(data) // step, leg.samples_in(-ahead_ns))
                data = data[known * step :]
                captured_ns += leg.nanoseconds(known)
                if not data:
                    return []
            elif not leg.samples or (STEADY_NS if leg.repeats else TOLERANCE_NS) < ahead_ns <= FORWARD_STEP_NS:
                if missing := leg.samples_in(ahead_ns):
                    events.append(Missing(missing, "lost", leg.stream.leg))
                    leg.samples += missing
            elif abs(ahead_ns) > TOLERANCE_NS:
                leg.origin_ns += ahead_ns
            elif abs(ahead_ns) > STEADY_NS:
                leg.origin_ns += ahead_ns // 64
            leg.repeats = False
        leg.samples += len(data) // step
        return [*events, Audio(data, leg.stream.leg, captured_ns or 0)]


def succeeded() -> ConversationAudioForkingResponse:
    """The one response of a conversation that ended as it should."""
    return ConversationAudioForkingResponse(status_message="SUCCESS", error_code=ERROR_NONE)


def failed(error: IngestError) -> ConversationAudioForkingResponse:
    """The response that goes before the status of a conversation that could not be served."""
    code = ERROR_INVALID_AUDIO_FORMAT if isinstance(error, BadAudio) else ERROR_STREAM_FAILURE
    return ConversationAudioForkingResponse(status_message=str(error)[:500], error_code=code)


def _captured_ns(audio: AudioStream) -> int | None:
    """When the first sample was captured, nanoseconds since the epoch; None where the message does not say."""
    if not audio.HasField("audio_timestamp"):
        return None
    at = audio.audio_timestamp
    if not (0 <= at.seconds <= _LATEST_S and 0 <= at.nanos < 1_000_000_000):
        raise BadMessage(f"audio_timestamp is {at.seconds} s and {at.nanos} ns, which is no time a call can be at.")
    return (at.seconds * 1_000_000_000 + at.nanos) or None


def _format_of(audio: AudioStream) -> AudioFormat:
    encoding = _ENCODINGS.get(audio.encoding)
    if encoding is None:
        raise BadAudio(f"encoding is {audio.encoding}, which is none of LINEAR16, MULAW and ALAW.")
    if audio.sample_rate_hertz not in RATES_HZ:
        raise BadAudio(f"sample_rate_hertz is {audio.sample_rate_hertz}; 8000 and 16000 are served.")
    audio_format = AudioFormat(encoding, audio.sample_rate_hertz, 1)
    if len(audio.audio_data) % audio_format.step_bytes:
        raise BadAudio(
            f"A piece of LINEAR16 audio has {len(audio.audio_data)} bytes, which is no whole number of samples."
        )
    return audio_format
