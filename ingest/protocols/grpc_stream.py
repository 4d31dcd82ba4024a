"""One `StreamAnalysis` call without gRPC: chunks in, events out, and the answers (docs/protocols/grpc.md).

State by what comes; a cell names the events that come out and the next state, or the error::

                 start             audio                      consent            half-close
    START        Opened…, AUDIO    BadMessage                 BadMessage         BadHello
    AUDIO        BadMessage        Missing?, Audio?, AUDIO    Consented, AUDIO   Ended, DONE

Two legs come either as two interleaved channels (one `Opened`, events without a leg) or each in chunks of its own (an
`Opened` for each, events that name the leg).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from callscope.errors import BadHello, BadMessage
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat, Encoding
from ingest.protocols.events import Audio, Consented, Ended, Event, Missing, Opened
from ingest.protocols.explaining import explained
from ingest.protocols.websocket import Consent, Hello
from schemas.v1.analysis_pb2 import (
    AnalysisResult,
    AudioChunk,
    ConsentGiven,
    LegEnd,
    LegTime,
    StreamStart,
)
from schemas.v1.analysis_pb2 import Consented as ConsentedMessage
from schemas.v1.analysis_pb2 import Ended as EndedMessage
from schemas.v1.analysis_pb2 import Published as PublishedMessage
from schemas.v1.analysis_pb2 import Ready as ReadyMessage

SOURCE: Final = "grpc"
MAX_MISSING_S: Final = 3_600
"""The longest hole one chunk may tell of."""

_ENCODINGS: Final[Mapping[int, Encoding]] = {
    StreamStart.S16LE: "s16le",
    StreamStart.MULAW: "mulaw",
    StreamStart.ALAW: "alaw",
}


class GrpcStream:
    """One call's state. `receive` takes what the client sends; the other methods make what it is sent.

    Attributes:
        start: the client's first message, once it came.
    """

    def __init__(self) -> None:
        self.start: StreamStart | None = None
        self._hello: Hello | None = None
        self._apart = False
        self._published: dict[StreamId, int] = {}

    @property
    def streams(self) -> tuple[StreamId, ...]:
        """One per leg; none before the start."""
        return tuple(self._published)

    def receive(self, chunk: AudioChunk) -> list[Event]:
        """What a chunk means, in order.

        Raises:
            BadHello: the start asks for what cannot be served.
            BadMessage: the chunk is of the wrong kind at this point, or contradicts the start.
        """
        kind = chunk.WhichOneof("content")
        if kind == "start":
            if self._hello is not None:
                raise BadMessage("A second start came. Open another gRPC call for another stream.")
            return self._open(chunk.start)
        if self._hello is None:
            raise BadMessage("The first message must be a start: it says what the audio is.")
        if kind == "consent":
            return [self._consent(chunk.consent)]
        if kind is None and not chunk.missing_before:
            raise BadMessage("A message without content came. Send start, audio or consent.")
        return self._audio(chunk)

    def half_closed(self) -> Ended:
        """The client will send nothing more.

        Raises:
            BadHello: it sent nothing at all.
        """
        if self._hello is None:
            raise BadHello("The client half-closed the call without a start. Send it as the first message.")
        return Ended()

    def _open(self, start: StreamStart) -> list[Event]:
        encoding = _ENCODINGS.get(start.encoding)
        if encoding is None:
            raise BadHello(f"The start cannot be served: encoding {start.encoding} is not S16LE, MULAW or ALAW.")
        legs = list(start.legs)
        apart = len(legs) == 2 and start.channels == 1
        if not apart and start.channels not in (0, len(legs)):
            raise BadHello(
                f"The start cannot be served: channels is {start.channels} and {len(legs)} leg(s) are named. Name one "
                "leg per channel, or say 1 channel and name two legs, and the leg in every chunk."
            )
        try:
            hello = Hello.model_validate(
                {
                    "type": "hello",
                    "call_id": start.call_id,
                    "legs": legs,
                    "encoding": encoding,
                    "rate_hz": start.rate_hz,
                    "channels": max(1, len(legs)),
                    "metadata": dict(start.metadata),
                }
            )
        except ValidationError as error:
            raise BadHello("The start cannot be served: " + explained(error)) from error
        self.start, self._hello, self._apart = start, hello, apart
        streams = tuple(StreamId(hello.call_id, leg) for leg in hello.leg_names)
        self._published = dict.fromkeys(streams, 0)
        sources = [(stream,) for stream in streams] if apart else [streams]
        return [
            Opened(source, AudioFormat(encoding, hello.rate_hz, len(source)), SOURCE, hello.metadata)
            for source in sources
        ]

    def _audio(self, chunk: AudioChunk) -> list[Event]:
        assert self._hello is not None
        leg = chunk.leg or None
        if self._apart and leg not in self._hello.leg_names:
            raise BadMessage(f"A chunk is of leg {chunk.leg[:64]!r}; the start named {list(self._hello.leg_names)}.")
        if not self._apart and leg is not None:
            raise BadMessage("A chunk names a leg, but by the start every chunk is of all legs.")
        if chunk.missing_before > MAX_MISSING_S * self._hello.rate_hz:
            raise BadMessage(
                f"A chunk says that {chunk.missing_before} samples are missing before it; more than {MAX_MISSING_S} s "
                "are another call."
            )
        events: list[Event] = []
        if chunk.missing_before:
            events.append(Missing(chunk.missing_before, "lost", leg))
        if chunk.audio:
            events.append(Audio(chunk.audio, leg, max(0, chunk.capture_ns)))
        return events

    def _consent(self, given: ConsentGiven) -> Consented:
        assert self._hello is not None
        try:
            consent = Consent.model_validate(
                {
                    "type": "consent",
                    "leg": given.leg or None,
                    "analyse": given.analyse,
                    "purposes": list(given.purposes),
                }
            )
        except ValidationError as error:
            raise BadMessage("The consent cannot be taken: " + explained(error)) from error
        if consent.leg is not None and consent.leg not in self._hello.leg_names:
            raise BadMessage(f"The consent is about leg {consent.leg!r}; this call carries {self._hello.leg_names}.")
        return Consented(consent.leg, consent.analyse, tuple(consent.purposes))

    def ready(self) -> AnalysisResult:
        """The answer to the start, once the streams are open."""
        return AnalysisResult(is_final=True, ready=ReadyMessage(streams=[str(stream) for stream in self._published]))

    def published(self, published: Mapping[StreamId, int]) -> AnalysisResult | None:
        """How far Kafka has acknowledged each stream, or None where that is what the client knows already.

        Args:
            published: media time up to which every record is safe, samples.
        """
        if dict(published) == self._published:
            return None
        self._published = dict(published)
        return AnalysisResult(is_final=False, published=PublishedMessage(legs=_leg_times(published)))

    def consented(self, consented: Consented, since: Mapping[StreamId, int]) -> AnalysisResult:
        """The answer to a consent, once Kafka has it.

        Args:
            consented: what was said.
            since: media time of each stream it is about, from which on it holds, samples.
        """
        message = ConsentedMessage(analyse=consented.allowed, purposes=consented.purposes, since=_leg_times(since))
        return AnalysisResult(is_final=True, consented=message)

    def ended(self, published: Mapping[StreamId, int], padded: Mapping[StreamId, int]) -> AnalysisResult:
        """The last message, once all is published and every result has been sent.

        Args:
            published: length of each stream, samples, with the silence that fills its last frame.
            padded: how many samples of silence that is.
        """
        legs = [LegEnd(leg=stream.leg, published=at, padded=padded[stream]) for stream, at in published.items()]
        return AnalysisResult(is_final=True, ended=EndedMessage(legs=legs))


def _leg_times(times: Mapping[StreamId, int]) -> list[LegTime]:
    return [LegTime(leg=stream.leg, at=at) for stream, at in times.items()]
