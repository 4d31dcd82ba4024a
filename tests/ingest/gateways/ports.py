"""A gateway with all its ports open, which publishes into a list."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY

from callscope.access import Access
from callscope.config import Ingest, load
from ingest.gateways import audiosocket, websocket
from ingest.gateways.gate import Gate
from ingest.gateways.routes import ROUTES
from ingest.intake import Intake
from tests.ingest.recording import RecordingPublisher

TOKEN = "a token of some length"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the gateway listens, and what it published."""

    websocket_port: int
    audiosocket_port: int
    publisher: RecordingPublisher
    intake: Intake
    close: Callable[[], Any]

    def url(self, path: str) -> str:
        """A WebSocket address."""
        return f"ws://127.0.0.1:{self.websocket_port}{path}"

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """A plain HTTP request: status and text; to be run in a thread."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.websocket_port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def idle(self) -> None:
        """Wait until no stream is open."""
        await until(lambda: not self.intake.open_streams)


@asynccontextmanager
async def ports(*, tokens: tuple[dict[str, Any], ...] = (), **settings: Any) -> AsyncIterator[Ports]:
    """Run the gateway.

    Args:
        tokens: access tokens; none lets everybody in.
        **settings: of the section ingest.
    """
    ingest = Ingest(port=0, audiosocket_port=0, **settings)
    publisher = RecordingPublisher()
    intake = Intake(publisher, ingest.max_streams, ingest.publish_timeout_s)
    all_settings = load(ingest=ingest, access={"tokens": tokens})
    gate = Gate(all_settings, intake, Access(all_settings.access))
    web = await websocket.listen(gate, ROUTES)
    audio = await audiosocket.listen(gate)
    assert audio is not None

    async def close() -> None:
        await asyncio.gather(web.close(), audio.close())

    try:
        yield Ports(web.port, audio.port, publisher, intake, close)
    finally:
        await close()
    assert intake.open_streams == 0


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds, at most 5 s."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  # what is watched knows of no event
            await asyncio.sleep(0.002)


@asynccontextmanager
async def counted(code: int) -> AsyncIterator[None]:
    """Within it, exactly one connection is closed with this code."""
    before = _errors(code)
    yield
    await until(lambda: _errors(code) > before)
    assert _errors(code) == before + 1


def _errors(code: int) -> float:
    return REGISTRY.get_sample_value("callscope_ingest_errors_total", {"code": str(code)}) or 0.0
