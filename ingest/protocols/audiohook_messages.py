"""The messages of Genesys AudioHook, version 2, that a client sends, and what they must look like.

Facts from the vendor's reference implementation (github.com/purecloudlabs/audiohook-reference-implementation, protocol
sources). Unknown fields are passed over: the vendor adds some without a new version.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

RATE_HZ: Final = 8_000
"""The only rate there is, Hz."""
LONGEST_SESSION_S: Final = 24 * 3_600
"""Positions beyond a day are not believed."""
NULL_UUID: Final = "00000000-0000-0000-0000-000000000000"
"""The conversation's and participant's id in a connection probe."""


def _seconds(text: str) -> str:
    if Decimal(text[2:-1]) > LONGEST_SESSION_S:
        raise ValueError(f"must not be longer than {LONGEST_SESSION_S} s")
    return text


Uuid = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$")
]
Duration = Annotated[
    str, StringConstraints(pattern=r"^PT(?:[0-9]{1,12}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})S$"), AfterValidator(_seconds)
]
SequenceNumber = Annotated[int, Field(ge=0, le=2**53)]
Channel = Literal["external", "internal"]
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,3}$")]


def samples_of(duration: str) -> int:
    """A duration, "PT1.25S", in samples at 8 kHz, to the nearest."""
    return round(Decimal(duration[2:-1]) * RATE_HZ)


def duration_of(samples: int) -> str:
    """Samples at 8 kHz as a duration, exactly: "PT1.25S"."""
    return f"PT{format((Decimal(samples) / RATE_HZ).normalize(), 'f')}S"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class ClientMessage(_Part):
    """What every message of a client has.

    Attributes:
        id: the session's.
        seq: counts the client's messages from 1.
        serverseq: the last of ours that the client had seen.
        position: the client's place in its stream: audio sent, discarded and paused.
    """

    version: Literal["2"]
    id: Uuid
    type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    seq: SequenceNumber
    serverseq: SequenceNumber
    position: Duration
    parameters: dict[str, JsonValue]

    @property
    def samples(self) -> int:
        """`position` in samples at 8 kHz."""
        return samples_of(self.position)


class Media(_Part):
    """One format on offer."""

    type: Literal["audio"]
    format: Literal["PCMU", "L16"]
    channels: Annotated[list[Channel], Field(min_length=1, max_length=2)]
    rate: Literal[8_000]


class Participant(_Part):
    """Who is on the line outside. Name and numbers come too, and are not read: nothing here needs them."""

    id: Uuid


class ContinuedSession(_Part):
    """An earlier session that this one goes on with."""

    id: Uuid
    serverseq: SequenceNumber
    clientseq: SequenceNumber


class Open(_Part):
    """Parameters of "open"."""

    organizationId: Uuid
    conversationId: Uuid
    participant: Participant
    media: Annotated[list[Media], Field(max_length=32)]
    language: Language | None = None
    supportedLanguages: bool = False
    continuedSessions: Annotated[list[ContinuedSession], Field(max_length=64)] = []
    customConfig: dict[str, JsonValue] = {}


class Hole(_Part):
    """Parameters of "discarded" and "resumed": audio that was not sent."""

    start: Duration
    discarded: Duration

    @property
    def end(self) -> int:
        """Where audio begins again, samples at 8 kHz."""
        return samples_of(self.start) + samples_of(self.discarded)


class Close(_Part):
    """Parameters of "close"."""

    reason: Literal["end", "error", "disconnect", "reconnect"]


class Error(_Part):
    """Parameters of "error"."""

    code: Annotated[int, Field(ge=400, lt=10_000)]
    message: str


class Ping(_Part):
    """Parameters of "ping"."""

    rtt: Duration | None = None


class Update(_Part):
    """Parameters of "update"."""

    language: Language


class Nothing(_Part):
    """Parameters of messages whose parameters say nothing we keep, such as the digit of "dtmf"."""


PARAMETERS: Final[dict[str, type[_Part]]] = {
    "open": Open,
    "close": Close,
    "ping": Ping,
    "paused": Nothing,
    "resumed": Hole,
    "discarded": Hole,
    "update": Update,
    "error": Error,
    "dtmf": Nothing,
    "playback_started": Nothing,
    "playback_completed": Nothing,
}
"""The parameters of each type of message; other types there are not."""


def parameters_of(message: ClientMessage) -> Any:
    """The parameters, checked, as the class that `PARAMETERS` names for the type.

    Raises:
        KeyError: there is no such type.
        pydantic.ValidationError: they are not as they must be.
    """
    return PARAMETERS[message.type].model_validate(message.parameters)
