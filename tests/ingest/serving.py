"""A WebSocket gateway on a free port that publishes into a list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from callscope.access import Access
from callscope.config import Ingest, load
from ingest.admission import Admission
from ingest.gateways.gate import Gate
from ingest.gateways.routes import ROUTES
from ingest.gateways.websocket import WebSocketListener, listen
from ingest.intake import Intake
from tests.ingest.recording import RecordingPublisher


class Serving:
    """A running gateway."""

    def __init__(self, listener: WebSocketListener, gate: Gate, publisher: RecordingPublisher) -> None:
        self.listener = listener
        self.gate = gate
        self.publisher = publisher

    @property
    def url(self) -> str:
        return self.listener.address

    @property
    def port(self) -> int:
        return int(self.listener.port)


@asynccontextmanager
async def serving(
    access: dict[str, Any] | None = None, admission: Admission | None = None, **ingest: Any
) -> AsyncIterator[Serving]:
    settings = load(ingest=Ingest(**{"port": 0, "ack_interval_s": 0.02, **ingest}), access=access or {})
    publisher = RecordingPublisher()
    limits = settings.ingest.limits
    intake = Intake(
        publisher, settings.ingest.max_streams, settings.ingest.publish_timeout_s, limits.streams_per_tenant, admission
    )
    gate = Gate(settings, intake, Access(settings.access))
    listener = await listen(gate, ROUTES)
    try:
        yield Serving(listener, gate, publisher)
    finally:
        await listener.close()
    assert intake.open_streams == 0
