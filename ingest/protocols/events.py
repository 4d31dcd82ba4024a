"""What a protocol tells of: a source opens its streams, sends audio, ends. The same for every transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat


@dataclass(frozen=True, slots=True)
class Opened:
    """A source announced its audio.

    A protocol whose tracks have timelines of their own opens each of them by itself, with the same call id; events then
    say by `leg` which one they are about.

    Attributes:
        streams: one per channel, in the order of the channels; all of one call.
        audio_format: how the audio is written.
        source: the transport: "websocket", ...
        metadata: whatever the source says of the call.
    """

    streams: tuple[StreamId, ...]
    audio_format: AudioFormat
    source: str
    metadata: Mapping[str, str]

    @property
    def call_id(self) -> str:
        """The call all of it belongs to."""
        return self.streams[0].call_id


@dataclass(frozen=True, slots=True)
class Audio:
    """A piece of audio, cut anywhere.

    Attributes:
        data: in the format that was announced.
        leg: whose; None: all channels of the source, interleaved.
        captured_ns: when the source captured the first sample, nanoseconds since the epoch; 0 if it does not say.
    """

    data: bytes
    leg: str | None = None
    captured_ns: int = 0


MissingReason: TypeAlias = Literal["lost", "discarded", "paused"]


@dataclass(frozen=True, slots=True)
class Missing:
    """A piece of the source's timeline will never come.

    Attributes:
        samples: how much, per channel, at the source's rate; at least 0.
        reason: it was lost on the way, thrown away, or not captured.
        leg: whose; None: every leg of the source.
    """

    samples: int
    reason: MissingReason
    leg: str | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """The audio that follows begins at this sample of the source's timeline.

    What is there already is dropped, what is missing before it is lost.

    Attributes:
        sample: per channel, at the source's rate, from the stream's beginning.
        leg: whose; None: every leg of the source.
    """

    sample: int
    leg: str | None = None


MarkKind: TypeAlias = Literal["dtmf", "held", "resumed", "reconnected"]


@dataclass(frozen=True, slots=True)
class Marked:
    """Something other than sound happened, at this point of the audio. Of a pressed key not even the core keeps which.

    Attributes:
        kind: a key was pressed; the call was held, or taken up again; the source came back on another connection.
        leg: whose; None: every leg of the source.
    """

    kind: MarkKind
    leg: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The source said that this was all.

    Attributes:
        leg: whose; None: every leg of the source.
    """

    leg: str | None = None


@dataclass(frozen=True, slots=True)
class Consented:
    """A speaker allowed or refused analysis from now on.

    Attributes:
        leg: whose; None for every leg of the source.
        allowed: False: refused.
        purposes: what it is about, by the policies of models; empty for all analysis by models.
    """

    leg: str | None
    allowed: bool
    purposes: tuple[str, ...] = ()


Event: TypeAlias = Opened | Audio | Missing | Placed | Marked | Consented | Ended
