"""A gateway that publishes into a list, and AudioHook clients on the wire."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callscope import clock
from callscope.access import Access
from callscope.client.audiohook_messages import Session, handshake
from callscope.config import Access as AccessSettings
from callscope.config import AudioHook, Ingest, load
from ingest.gateways.gate import Gate
from ingest.gateways.routes import ROUTES
from ingest.gateways.websocket import listen
from ingest.intake import Intake
from tests.ingest.protocols.audiohook_client import Client, open_parameters
from tests.ingest.recording import RecordingPublisher


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  # what is watched knows of no event
            await asyncio.sleep(0.002)


def count_of(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def counted(code: int) -> AsyncIterator[None]:
    before = count_of("callscope_ingest_errors_total", code=str(code))
    yield
    assert count_of("callscope_ingest_errors_total", code=str(code)) == before + 1


class Gateway:
    """On a free port."""

    def __init__(self, url: str, publisher: RecordingPublisher, intake: Intake, stop: Callable[[], Any]) -> None:
        self.url = url
        self.publisher = publisher
        self.intake = intake
        self.stop = stop

    async def idle(self) -> None:
        """Wait until no stream is open."""
        await until(lambda: not self.intake.open_streams)


class Peer:
    """A client on the wire, that numbers its messages and keeps its position."""

    def __init__(self, socket: ClientConnection, session: Session) -> None:
        self.socket = socket
        self.session = session
        self.client = Client(session.id)

    async def says(self, kind: str, parameters: dict[str, Any] | None = None, **changes: Any) -> None:
        await self.socket.send(self.client.says(kind, parameters, **changes))

    async def hears(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(5):
            text = await self.socket.recv()
        assert isinstance(text, str)
        message = self.client.hears(text)
        assert message["type"] == kind, message
        return message

    async def opens(self, **changes: Any) -> dict[str, Any]:
        ids = {
            "organizationId": self.session.organization,
            "conversationId": self.session.conversation,
            "participant": {"id": self.session.participant},
        }
        await self.says("open", open_parameters(**{**ids, **changes}))
        return await self.hears("opened")

    async def sends(self, data: bytes, channels: int = 2) -> None:
        await self.socket.send(data)
        self.client.position += len(data) // channels

    async def closes(self, reason: str = "end") -> dict[str, Any]:
        await self.says("close", {"reason": reason})
        return await self.hears("closed")

    async def ended(self) -> tuple[int, str]:
        """The close code and reason, and nothing before it."""
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed) as closed:
                await self.socket.recv()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason


@asynccontextmanager
async def gate(publisher: RecordingPublisher | None = None, **settings: Any) -> AsyncIterator[Gateway]:
    publisher = publisher or RecordingPublisher()
    hook = {"refusal_delay_s": 0.0, "close_timeout_s": 0.5, **settings.pop("audiohook", {})}
    access = settings.pop("access", AccessSettings())
    ingest = Ingest(port=0, audiohook=AudioHook(**hook), **{"resume_s": 0.0, **settings})
    intake = Intake(publisher, ingest.max_streams, ingest.publish_timeout_s)
    listener = await listen(Gate(load(ingest=ingest, access=access), intake, Access(access)), ROUTES)
    try:
        yield Gateway(listener.address.replace("/v1/stream", "/audiohook"), publisher, intake, listener.close)
    finally:
        await listener.close()
    assert intake.open_streams == 0


@asynccontextmanager
async def peer(gateway: Gateway, session: Session | None = None, **headers: str) -> AsyncIterator[Peer]:
    session = session or Session("any")
    given = handshake(session, gateway.url, nonce(), clock.wall_ns() / 1e9) | headers
    async with connect(gateway.url, additional_headers=given, compression=None, ping_interval=None) as socket:
        yield Peer(socket, session)


def nonce() -> str:
    return base64.b64encode(secrets.token_bytes(18)).decode()
