"""What Genesys Cloud sends an AudioHook server: the handshake's headers and a session's numbered messages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from ingest.protocols.audiohook_messages import NULL_UUID, RATE_HZ, duration_of
from ingest.protocols.http_signature import SignedRequest, normal_authority, sign

CHANNELS: Final = ("external", "internal")
COVERED: Final = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)
"""What a signature covers, in the vendor's order."""
_LIFE_S: Final = 30


def _id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Session:
    """One session's identity.

    Attributes:
        api_key: names the server's customer.
        secret: what the handshake is signed with; None: it is not signed.
        conversation: the call.
        participant: who is on the line outside.
        organization: whose call it is.
        id: the session's own.
        correlation: ties logs together.
    """

    api_key: str
    secret: bytes | None = field(default=None, repr=False)
    conversation: str = field(default_factory=_id)
    participant: str = field(default_factory=_id)
    organization: str = field(default_factory=_id)
    id: str = field(default_factory=_id)
    correlation: str = field(default_factory=_id)

    @classmethod
    def probe(cls, api_key: str, secret: bytes | None) -> Session:
        """A session that only tries the connection, as saving the integration in Genesys Cloud does."""
        return cls(api_key, secret, NULL_UUID, NULL_UUID)


def handshake(session: Session, url: str, nonce: str, now_s: float) -> dict[str, str]:
    """The headers of the WebSocket handshake, signed if the session has a secret.

    Args:
        session: whose.
        url: where it goes.
        nonce: never used before, at least 22 characters.
        now_s: seconds since the epoch.
    """
    headers = {
        "audiohook-organization-id": session.organization,
        "audiohook-session-id": session.id,
        "audiohook-correlation-id": session.correlation,
        "x-api-key": session.api_key,
    }
    if session.secret is None:
        return headers
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = SignedRequest(target, list(headers.items()), normal_authority(parts.netloc.rpartition("@")[2]))
    created_s = int(now_s)
    return headers | sign(
        request,
        COVERED,
        key_id=session.api_key,
        secret=session.secret,
        nonce=nonce,
        created_s=created_s,
        expires_s=created_s + _LIFE_S,
    )


def offer(channels: int) -> list[dict[str, Any]]:
    """The formats on offer for a recording of that many channels, as Genesys Cloud orders them."""
    layouts: list[Sequence[str]] = [[name] for name in CHANNELS]
    if channels == 2:
        layouts.insert(0, CHANNELS)
    return [{"type": "audio", "format": "PCMU", "channels": list(names), "rate": RATE_HZ} for names in layouts]


class Messages:
    """Writes a session's messages, and reads the server's.

    Args:
        session: whose.

    Attributes:
        position: audio sent, discarded and paused so far, samples at 8 kHz.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seq = 0
        self._serverseq = 0
        self.position = 0

    def open(self, channels: int) -> str:
        """The first message."""
        return self.message(
            "open",
            {
                "organizationId": self._session.organization,
                "conversationId": self._session.conversation,
                "participant": {"id": self._session.participant, "ani": "", "aniName": "", "dnis": ""},
                "media": offer(channels),
                "language": "en-US",
            },
        )

    def skip(self, kind: str, samples: int) -> str:
        """The message "discarded" or "resumed": the position moves on without audio."""
        start, self.position = self.position, self.position + samples
        return self.message(kind, {"start": duration_of(start), "discarded": duration_of(samples)})

    def message(self, kind: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Any message."""
        self._seq += 1
        return json.dumps(
            {
                "version": "2",
                "type": kind,
                "id": self._session.id,
                "seq": self._seq,
                "serverseq": self._serverseq,
                "position": duration_of(self.position),
                "parameters": parameters or {},
            }
        )

    def read(self, text: str) -> dict[str, Any]:
        """A message of the server, its number checked.

        Raises:
            ValueError: it is not the one that should come, or none.
        """
        message: dict[str, Any] = json.loads(text)
        if message["id"] != self._session.id or message["seq"] != self._serverseq + 1:
            raise ValueError(f"the server's message {message['seq']} came after {self._serverseq}")
        self._serverseq = message["seq"]
        return message
