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
        data: the bytes.
        leg: whose; None: all channels of the source, interleaved.
        capture_ns: when its first sample was captured, nanoseconds since the epoch; 0: not known.
    """

    data: bytes
    leg: str | None = None
    capture_ns: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """So many samples of the source's timeline never came.

    Attributes:
        samples: of each channel, at the source's rate.
        reason: why.
        leg: whose; None: all channels of the source.
    """

    samples: int
    reason: Literal["lost", "discarded", "paused"] = "lost"
    leg: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The source said that this was all, of one leg or (None) of all."""

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


Event: TypeAlias = Opened | Audio | Missing | Consented | Ended
