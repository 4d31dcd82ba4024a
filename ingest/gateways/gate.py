"""What every gateway is given, and what a listener is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from callscope.access import Access, Grant
from callscope.config import Settings
from ingest.gateways.resumption import Resumption
from ingest.intake import Intake
from ingest.registrations import Registrations


@dataclass(frozen=True, slots=True)
class Gate:
    """What every gateway works with.

    Attributes:
        settings: all of them.
        intake: where streams are handed in.
        access: who may come in.
        sessions: streams whose clients may come back.
        registrations: the AudioSocket connections that were announced.
    """

    settings: Settings
    intake: Intake
    access: Access
    sessions: Resumption = field(default_factory=Resumption)
    registrations: Registrations[Grant] = field(default_factory=Registrations)


class Listener(Protocol):
    """An open port; `ingest.app` opens one by each of its `LISTENERS` and closes them at the end."""

    @property
    def address(self) -> str:
        """Where it can be reached, for people: "ws://127.0.0.1:7070/v1/stream"."""

    async def close(self) -> None:
        """Take no more connections, end those there are as a shutdown does; return when all streams are ended."""
