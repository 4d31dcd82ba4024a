"""UUIDs that were announced before their connections come, each good for one: AudioSocket's way of saying who may."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from uuid import UUID

from callscope.errors import StreamExists, TooManyStreams
from callscope.streams import StreamId

GrantT = TypeVar("GrantT")
WAIT_S: Final = 60.0
"""How long an announcement is good."""
MOST: Final = 10_000
"""How many may wait at once."""


@dataclass(frozen=True, slots=True)
class Registration(Generic[GrantT]):
    """What was announced.

    Attributes:
        stream: whose audio will come.
        grant: who announced it, and so whose call it is.
        metadata: what the call's start event shall say.
    """

    stream: StreamId
    grant: GrantT
    metadata: Mapping[str, str] = field(default_factory=dict)


class Registrations(Generic[GrantT]):
    """Announced UUIDs, until they are used or too old. Time is passed in, seconds of any steady clock.

    They are kept by their SHA-256, so that how long a look-up takes says nothing about which ones there are.

    Args:
        ttl_s: how long an announcement waits for its connection.
        limit: how many may wait at once.
    """

    def __init__(self, ttl_s: float = WAIT_S, limit: int = MOST) -> None:
        self._ttl_s = ttl_s
        self._limit = limit
        self._waiting: dict[bytes, tuple[float, Registration[GrantT]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, uuid: UUID, registration: Registration[GrantT], now_s: float) -> None:
        """Announce a connection.

        Raises:
            StreamExists: the UUID is announced already.
            TooManyStreams: too many wait.
        """
        self._forget(now_s)
        key = _key(uuid)
        if key in self._waiting:
            raise StreamExists(
                "That UUID is registered already, and not used yet. Take a new one for every connection."
            )
        if len(self._waiting) >= self._limit:
            raise TooManyStreams(f"{self._limit} registered UUIDs wait for their connections already. Try again later.")
        self._waiting[key] = now_s + self._ttl_s, registration

    def take(self, uuid: UUID, now_s: float) -> Registration[GrantT] | None:
        """What was announced under a UUID, once; None if nothing was, or too long ago."""
        self._forget(now_s)
        entry = self._waiting.pop(_key(uuid), None)
        return entry[1] if entry else None

    def _forget(self, now_s: float) -> None:
        """Drop what is too old: the oldest are in front, because all wait equally long."""
        while self._waiting:
            key, (until_s, _) = next(iter(self._waiting.items()))
            if until_s > now_s:
                return
            del self._waiting[key]


def _key(uuid: UUID) -> bytes:
    return hashlib.sha256(uuid.bytes).digest()
