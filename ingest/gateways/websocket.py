"""The WebSocket port: one for all protocols that speak WebSocket, each at a path of its own; health and metrics."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import prometheus_client
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Data, Subprotocol

from callscope.access import Grant, bearer_token
from callscope.clock import monotonic
from callscope.errors import Forbidden, IngestError, TooManyFromOne, Unauthorized
from callscope.tls import listening_options
from ingest import telemetry
from ingest.gateways.addresses import Addresses
from ingest.gateways.closing import CLOSE_TIMEOUT_S, GOING_AWAY, SHUTTING_DOWN, peer
from ingest.gateways.gate import Gate
from ingest.gateways.origins import is_allowed_origin
from ingest.gateways.pace import Pace

_QUEUED_MESSAGES: Final = 8


class Connection(ServerConnection):
    """A client's connection, with what its handshake found out.

    Attributes:
        route: where it came in.
        paces: its limits of rates; True: in bytes, False: in messages.
        grant: what its sender may do; None where the protocol tells only by its messages.
    """

    def __init__(self, addresses: Addresses, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._addresses = addresses
        self._address = ""
        self.paces: list[tuple[Pace, bool]] = []
        self.route: Route | None = None
        self.grant: Grant | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, before it has said anything; far too many of one address are broken off unheard."""
        super().connection_made(transport)
        self._address = peer(self)
        if not self._addresses.arrive(self._address):
            telemetry.error(HTTPStatus.TOO_MANY_REQUESTS.value, self._address, "broken off before the handshake")
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        super().connection_lost(exc)
        self._addresses.leave(self._address)

    async def recv(self, decode: bool | None = None) -> Data:  # type: ignore[override]  # one signature for three
        """The next message, as late as the limits of rates want it."""
        message = await super().recv(decode)
        now = monotonic()
        delay_s = max((pace.delay_s(len(message) if by_size else 1, now) for pace, by_size in self.paces), default=0)
        if delay_s > 0:
            telemetry.held_back()
            await asyncio.sleep(delay_s)
        return message

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
        serve: speaks the protocol from the handshake to the close frame; ends every source it opened. None where only
            plain HTTP requests are answered.
        admit: looks at the handshake's request, and says what its sender may do; None: the messages will tell.
            Raises `Unauthorized` (answered with 401) or `Forbidden` (403).
        subprotocols: those it speaks; the first one that the client offers is chosen, or none.
        below: paths below `path` are its too.
        answer: answers plain HTTP requests, if `serve` is None.
    """

    path: str
    serve: Callable[[Connection, Gate], Awaitable[None]] | None
    admit: Callable[[Request, Gate], Awaitable[Grant | None]] = admit_bearer
    subprotocols: tuple[str, ...] = ()
    below: bool = False
    answer: Callable[[Connection, Request, Gate], Response] | None = None

    def matches(self, path: str) -> bool:
        """Whether a request's path, without its query, is this route's."""
        return path == self.path or (self.below and path.startswith(self.path + "/"))


class WebSocketListener:
    """The open port. `server` is websockets' own.

    Args:
        server: listening.
        path: shown in the address.
        gate: whose sessions end with it.
    """

    def __init__(self, server: Server, path: str, gate: Gate) -> None:
        self.server = server
        self._gate = gate
        host, self.port = server.sockets[0].getsockname()[:2]
        scheme = "ws" if gate.settings.ingest.tls.cert_file is None else "wss"
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    async def close(self) -> None:
        """Close every connection with 1001, and return when all their streams have been ended."""
        self.server.close(code=GOING_AWAY, reason=SHUTTING_DOWN)
        await self.server.wait_closed()
        await self._gate.sessions.close()


async def listen(gate: Gate, routes: Sequence[Route]) -> WebSocketListener:
    """Open the port and serve every connection until the listener is closed.

    Args:
        gate: what the protocols work with.
        routes: the protocols, the first of them the one to tell people of.

    Raises:
        OSError: the port cannot be had.
        ConfigError: the certificate cannot be loaded.
    """
    settings = gate.settings.ingest
    port = _Port(gate, routes)
    server = await serve(
        port.serve,
        settings.host,
        settings.port,
        **listening_options(settings.tls, "ingest.tls", settings.hello_timeout_s),
        create_connection=partial(Connection, port.addresses),  # type: ignore[arg-type]  # whatever makes one will do
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
    return WebSocketListener(server, routes[0].path, gate)


HEALTH_PATHS: Final = ("/healthz", "/livez", "/readyz")
"""All three: this port is open from when Kafka was reached until the gateway stops, and who answers lives."""


class _Port:
    """Finds the route of each connection in its handshake."""

    def __init__(self, gate: Gate, routes: Sequence[Route]) -> None:
        self._gate = gate
        self._routes = routes
        self._limits = gate.settings.ingest.limits
        self.addresses = Addresses(self._limits.connections_per_address)
        self._tenants: defaultdict[str, int] = defaultdict(int)
        self._tenant_paces: dict[str, Pace] = {}

    async def serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Connection) and connection.route is not None
        assert connection.route.serve is not None
        tenant = connection.grant.tenant if connection.grant is not None else ""
        connection.paces = self._paces(tenant)
        self._tenants[tenant] += 1
        try:
            await connection.route.serve(connection, self._gate)
        finally:
            self._tenants[tenant] -= 1
            if not self._tenants[tenant]:
                del self._tenants[tenant]
                self._tenant_paces.pop(tenant, None)

    def _paces(self, tenant: str) -> list[tuple[Pace, bool]]:
        limits = self._limits
        paces = [(_pace(limits.messages_per_s), False), (_pace(limits.bytes_per_s), True)]
        if limits.tenant_bytes_per_s is not None:
            shared = self._tenant_paces.setdefault(tenant, _pace(limits.tenant_bytes_per_s))
            paces.append((shared, True))
        return paces

    def _check_counts(self, connection: Connection) -> None:
        limits = self._limits
        if self.addresses.has_too_many(peer(connection)):
            raise TooManyFromOne(f"This address has {limits.connections_per_address} connections, which is the limit.")
        if limits.connections_per_tenant is None or connection.grant is None:
            return
        if self._tenants.get(connection.grant.tenant, 0) >= limits.connections_per_tenant:
            raise TooManyFromOne(f"This tenant has {limits.connections_per_tenant} connections, which is the limit.")

    async def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP requests; None lets the WebSocket handshake go on."""
        assert isinstance(connection, Connection)
        path = request.path.partition("?")[0]
        try:
            if path in HEALTH_PATHS:
                trouble = self._gate.intake.publisher.trouble
                return connection.respond(HTTPStatus.OK, "ok\n" if trouble is None else f"degraded: {trouble}\n")
            if path == "/metrics":
                return self._metrics(connection, request)
            route = next((route for route in self._routes if route.matches(path)), None)
            if route is None:
                paths = ", ".join(route.path for route in self._routes)
                return connection.respond(HTTPStatus.NOT_FOUND, f"Audio streams are received at {paths}.\n")
            self._check_origin(request)
            connection.route = route
            connection.grant = await route.admit(request, self._gate)
            if route.answer is not None:
                return route.answer(connection, request, self._gate)
            self._check_counts(connection)
        except (Unauthorized, Forbidden, TooManyFromOne) as error:
            return _refused(connection, error)
        # Room beyond the streams, so that one too many can still be told so over its WebSocket.
        if len(connection.server.all_connections) >= 2 * self._gate.settings.ingest.max_streams:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections. Try again later.\n")
        return None

    def _check_origin(self, request: Request) -> None:
        """A browser shows any page to anybody who can reach this port, and tells which one it is."""
        ingest = self._gate.settings.ingest
        found = request.headers.get_all("Origin")
        origin, requested = next(iter(found), None), next(iter(request.headers.get_all("Host")), None)
        if len(found) > 1 or not is_allowed_origin(
            origin, host=ingest.host, origins=ingest.origins, requested=requested
        ):
            raise Forbidden("Pages of this origin may not send audio; CALLSCOPE_INGEST__ORIGINS can allow it.")

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


_STATUS: Final[dict[type[IngestError], HTTPStatus]] = {
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    TooManyFromOne: HTTPStatus.TOO_MANY_REQUESTS,
}


def _pace(per_s: float) -> Pace:
    """A rate of which one second may come at once."""
    return Pace(per_s, per_s)


def _refused(connection: ServerConnection, error: IngestError) -> Response:
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    telemetry.error(status.value, peer(connection), str(error))
    response = connection.respond(status, f"{error}\n")
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
