"""The WebSocket port: one for all protocols that speak WebSocket, each at a path of its own; health and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import prometheus_client
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from callscope import telemetry
from callscope.access import Grant, bearer_token
from callscope.errors import Forbidden, IngestError, Unauthorized
from ingest.gateways.closing import CLOSE_TIMEOUT_S, GOING_AWAY, SHUTTING_DOWN, peer
from ingest.gateways.gate import Gate

_QUEUED_MESSAGES: Final = 8


class Connection(ServerConnection):
    """A client's connection, with what its handshake found out.

    Attributes:
        route: where it came in.
        grant: what its sender may do; None where the protocol tells only by its messages.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.route: Route | None = None
        self.grant: Grant | None = None

    @property
    def granted(self) -> Grant:
        """The grant of a route that admits in the handshake."""
        assert self.grant is not None, "the route admits in the handshake"
        return self.grant


async def admit_bearer(request: Request, gate: Gate) -> Grant | None:
    """Let in whoever has a token to publish, in the Authorization header or as `?token=`.

    Raises:
        Unauthorized: no token, or not one of ours.
        Forbidden: it does not allow to publish.
    """
    token = bearer_token(request.headers.get("Authorization"), request.path)
    return gate.access.grant(token, "publish")


@dataclass(frozen=True, slots=True)
class Route:
    """A protocol's place on the port.

    Attributes:
        path: "/v1/stream".
        serve: speaks the protocol from the handshake to the close frame; ends every source it opened.
        admit: looks at the handshake's request, and says what its sender may do; None: the messages will tell.
            Raises `Unauthorized` (answered with 401) or `Forbidden` (403).
        subprotocols: those it speaks; the first one that the client offers is chosen, or none.
        below: paths below `path` are its too.
    """

    path: str
    serve: Callable[[Connection, Gate], Awaitable[None]]
    admit: Callable[[Request, Gate], Awaitable[Grant | None]] = admit_bearer
    subprotocols: tuple[str, ...] = ()
    below: bool = False

    def matches(self, path: str) -> bool:
        """Whether a request's path, without its query, is this route's."""
        return path == self.path or (self.below and path.startswith(self.path + "/"))


class WebSocketListener:
    """The open port. `server` is websockets' own.

    Args:
        server: listening.
        path: shown in the address.
    """

    def __init__(self, server: Server, path: str) -> None:
        self.server = server
        host, self.port = server.sockets[0].getsockname()[:2]
        self.address = f"ws://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    async def close(self) -> None:
        """Close every connection with 1001, and return when all their streams have been ended."""
        self.server.close(code=GOING_AWAY, reason=SHUTTING_DOWN)
        await self.server.wait_closed()


async def listen(gate: Gate, routes: Sequence[Route]) -> WebSocketListener:
    """Open the port and serve every connection until the listener is closed.

    Args:
        gate: what the protocols work with.
        routes: the protocols, the first of them the one to tell people of.

    Raises:
        OSError: the port cannot be had.
    """
    settings = gate.settings.ingest
    port = _Port(gate, routes)
    server = await serve(
        port.serve,
        settings.host,
        settings.port,
        create_connection=Connection,
        process_request=port.answer,
        select_subprotocol=port.subprotocol,
        compression=None,
        max_size=settings.max_message_bytes,
        max_queue=_QUEUED_MESSAGES,
        open_timeout=settings.hello_timeout_s,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=None,  # a client that has gone silent is found by the idle time-out
        server_header=None,
    )
    return WebSocketListener(server, routes[0].path)


class _Port:
    """Finds the route of each connection in its handshake."""

    def __init__(self, gate: Gate, routes: Sequence[Route]) -> None:
        self._gate = gate
        self._routes = routes

    async def serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Connection) and connection.route is not None
        await connection.route.serve(connection, self._gate)

    async def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP requests; None lets the WebSocket handshake go on."""
        assert isinstance(connection, Connection)
        path = request.path.partition("?")[0]
        try:
            if path == "/healthz":
                return connection.respond(HTTPStatus.OK, "ok\n")
            if path == "/metrics":
                return self._metrics(connection, request)
            route = next((route for route in self._routes if route.matches(path)), None)
            if route is None:
                paths = ", ".join(route.path for route in self._routes)
                return connection.respond(HTTPStatus.NOT_FOUND, f"Audio streams are received at {paths}.\n")
            connection.route = route
            connection.grant = await route.admit(request, self._gate)
        except (Unauthorized, Forbidden) as error:
            return _refused(connection, error)
        # Room beyond the streams, so that one too many can still be told so over its WebSocket.
        if len(connection.server.all_connections) >= 2 * self._gate.settings.ingest.max_streams:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections. Try again later.\n")
        return None

    def subprotocol(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """The first offered one that the route speaks; none if it speaks none."""
        assert isinstance(connection, Connection) and connection.route is not None
        spoken = connection.route.subprotocols
        return next((one for one in offered if one in spoken), None)

    def _metrics(self, connection: ServerConnection, request: Request) -> Response:
        self._gate.access.grant(bearer_token(request.headers.get("Authorization"), request.path), "admin")
        response = connection.respond(HTTPStatus.OK, prometheus_client.generate_latest().decode())
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = prometheus_client.CONTENT_TYPE_LATEST
        return response


def _refused(connection: ServerConnection, error: IngestError) -> Response:
    status = HTTPStatus.UNAUTHORIZED if isinstance(error, Unauthorized) else HTTPStatus.FORBIDDEN
    telemetry.ingest_error(status.value, peer(connection), str(error))
    response = connection.respond(status, f"{error}\n")
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
