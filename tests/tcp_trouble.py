"""A TCP proxy that makes trouble between a client and a server: delay, jitter, stalls, cuts, silence.

TCP hides lost packets: an application sees them as stalls, so loss is made here by stalling a piece for as long as a
retransmission takes.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Trouble:
    """A proxy in front of a port, and the trouble it makes; change its attributes at any time.

    Attributes:
        delay_s: every piece is so late.
        jitter_s: and up to so much later, at random; pieces never overtake one another.
        stall_share: share of the pieces that stall.
        stall_s: for how long.
        accepts: False: new connections are reset at once, as by a host that is down.
        forwards: False: nothing gets through, in neither direction, and nobody is told (half-open).
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._random = random.Random(7)
        self._flows = asyncio.Event()
        self._flows.set()
        self.delay_s = 0.0
        self.jitter_s = 0.0
        self.stall_share = 0.0
        self.stall_s = 0.0
        self.accepts = True
        self.connections = 0
        self.port = 0

    def cut(self) -> None:
        """Reset all connections."""
        for pair in list(self._pairs):
            for writer in pair:
                _reset(writer)

    def forward_to(self, port: int) -> None:
        """New connections go to another server, as when one takes another's place; those there are stay."""
        self._upstream = port
        self.accepts = True

    def black_out(self) -> None:
        """From now on the connections there are swallow everything, for ever; new ones work."""
        for pair in list(self._pairs):
            for writer in pair:
                writer.swallowed = True  # type: ignore[attr-defined]  # ours

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepts:
            _reset(writer)
            return
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        pair = (writer, far_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))
        finally:
            self._pairs.discard(pair)
            for one in pair:
                _reset(one) if one.transport.is_closing() else one.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Move pieces of one direction, each no sooner than its time."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1_000)

        async def take() -> None:
            with suppress(ConnectionError):
                while data := await reader.read(4_096):
                    late = self.delay_s + self.jitter_s * self._random.random()
                    late += self.stall_s if self._random.random() < self.stall_share else 0.0
                    await pieces.put((loop.time() + late, data))
            await pieces.put((loop.time(), b""))

        async def give() -> None:
            with suppress(ConnectionError):
                while True:
                    due, data = await pieces.get()
                    await asyncio.sleep(due - loop.time())
                    if getattr(writer, "swallowed", False):
                        continue
                    if not data:
                        writer.close()
                        return
                    writer.write(data)
                    await writer.drain()

        taking = asyncio.create_task(take())
        try:
            await give()
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def trouble(port: int) -> AsyncIterator[Trouble]:
    """A proxy on a free port of loopback in front of `port`."""
    proxy = Trouble(port)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
