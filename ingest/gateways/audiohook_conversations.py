"""Conversations whose streams go on when another AudioHook session takes them over.

The vendor opens a second session for a conversation when its first was lost, was asked to go, or got no answer in time.
Whoever holds a source gives it up when it is wanted, and the media clock goes on: one call stays one call.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from callscope.clock import monotonic, wall_ns
from callscope.errors import StreamExists
from ingest.intake import Intake
from ingest.protocols.events import Opened
from ingest.source import Source

Key: TypeAlias = tuple[str, str, str]
"""Tenant, conversation and participant."""


@dataclass(slots=True, eq=False)
class Held:
    """A source, in the hands of the session that feeds it or waits for its successor.

    Attributes:
        source: the open streams.
        opened: what they were opened with.
        session_id: the session's, in lower case.
        position: how far its client's stream had come, samples at 8 kHz.
        heard_at: when audio last came, on the monotonic clock.
        wanted: another session asks for the source.
        released: it may have it.
    """

    source: Source
    opened: Opened
    session_id: str
    position: int = 0
    heard_at: float = field(default_factory=monotonic)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Conversations:
    """The sources that AudioHook sessions hold, by conversation."""

    def __init__(self) -> None:
        self._held: dict[Key, Held] = {}

    def hold(self, key: Key, held: Held) -> Held:
        """From now on this source is the conversation's."""
        self._held[key] = held
        return held

    def let_go(self, key: Key, held: Held) -> None:
        """The source has ended, unless another session has it by now."""
        if self._held.get(key) is held:
            del self._held[key]

    def find(self, key: Key) -> Held | None:
        """The conversation's source."""
        return self._held.get(key)

    async def take_over(self, held: Held, opened: Opened, timeout_s: float) -> None:
        """Return when the source is the caller's.

        Raises:
            StreamExists: it has other channels, another session is taking it over too, or it is not given up in time.
        """
        if (held.opened.streams, held.opened.audio_format) != (opened.streams, opened.audio_format):
            raise StreamExists("This conversation is being received with other channels. Wait for its end.")
        if held.wanted.is_set():
            raise StreamExists("Another session is taking this conversation over.")
        held.wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                await held.released.wait()
        except BaseException as error:
            if not held.released.is_set():
                held.wanted.clear()  # whoever holds it keeps it
            elif isinstance(error, TimeoutError):
                return
            else:
                await held.source.end("gateway error", wall_ns(), whole=False)
            if isinstance(error, TimeoutError):
                raise StreamExists("This conversation's other session does not give it up.") from None
            raise


_CONVERSATIONS: WeakKeyDictionary[Intake, Conversations] = WeakKeyDictionary()


def conversations_of(intake: Intake) -> Conversations:
    """Those whose streams are open in that intake."""
    return _CONVERSATIONS.setdefault(intake, Conversations())
