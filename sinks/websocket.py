"""The results' server: WebSocket at /v1/results; the dashboard, /healthz and /metrics over HTTP on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from callscope.access import Access, Grant, bearer_token
from callscope.clock import wall_ns
from callscope.config import Sink
from callscope.errors import ConfigError, Forbidden, SubscribeError, Unauthorized
from callscope.telemetry import tokens_in_the_clear
from callscope.tls import server_context
from sinks import telemetry
from sinks.hub import Hub, Resumption, Subscriber
from sinks.messages import Message
from sinks.pages import (
    SECURITY_HEADERS,
    content_security_policy,
    is_allowed_origin,
    is_known_host,
    load_pages,
    origin_of,
)
from sinks.pushing import Pushing, TooSlow
from sinks.read_back import CannotResume, Past
from sinks.subscription import Subscription, read_subscription

RESULTS_PATH: Final = "/v1/results"
MICROPHONE_PATH: Final = "/microphone.html"
TOO_SLOW: Final = 1013
BAD_REQUEST: Final = SubscribeError.close_code
SUBSCRIBE_TIMEOUT_S: Final = 30.0
"""A connection that asks for nothing is not kept."""
MAX_REQUEST_BYTES: Final = 256 * 1024
PING_INTERVAL_S: Final = 20.0
CLOSE_TIMEOUT_S: Final = 3.0
POSITION_S: Final = 5.0
"""How often subscribers that may come back are told where they are."""
_library_log = logging.getLogger("callscope.sinks.websockets")
_library_log.setLevel(logging.CRITICAL)  # peers that break off are counted and logged by us


class Connection(ServerConnection):
    """A subscriber's connection, with what its token allows; nothing before the handshake has looked at it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.grant: Grant | None = None


class ResultsServer:
    """Serves subscribers from a hub until closed."""

    def __init__(
        self,
        hub: Hub,
        config: Sink,
        access: Access,
        *,
        past: Past | None = None,
        is_healthy: Callable[[], bool] = lambda: True,
        clock_ns: Callable[[], int] = wall_ns,
    ) -> None:
        """Prepares it; `start` opens the port.

        Args:
            hub: where messages come from; `hub.publish` and this object belong to one event loop.
            config: where to listen, and how much to allow.
            access: who may see what.
            past: where subscribers that come back get what they missed; None: nowhere.
            is_healthy: what /healthz and /readyz answer.
            clock_ns: nanoseconds since the epoch.

        Raises:
            ConfigError: it would be open to others without being allowed to be, or its certificate cannot be loaded.
        """
        self._loopback_only = is_loopback(config.host)
        if not self._loopback_only and access.is_open and not config.allow_unauthenticated:
            raise ConfigError(
                f"The sink would listen on {config.host}, where others can reach it, and no token is configured: "
                "whoever connects could follow every call. Set CALLSCOPE_SINK__HOST=127.0.0.1, or name tokens in the "
                "section access (docs/security.md), or put a proxy that authenticates in front and set "
                "CALLSCOPE_SINK__ALLOW_UNAUTHENTICATED=true."
            )
        if not self._loopback_only and not access.is_open and config.tls.cert_file is None:
            tokens_in_the_clear("sink", config.host)
        self._access = access
        self._tls = server_context(config.tls, "sink.tls")
        self._hub = hub
        self._config = config
        self._past = past
        self._is_healthy = is_healthy
        self._clock_ns = clock_ns
        self._pages = load_pages()
        self._server: Server | None = None
        self._telling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the port.

        Raises:
            ConfigError: it cannot be opened.
        """
        try:
            self._server = await serve(
                self._serve_subscriber,
                self._config.host,
                self._config.port,
                ssl=self._tls,
                create_connection=Connection,
                process_request=self._answer_http,
                compression=None,  # costs more time than the network does; a proxy can compress
                max_size=MAX_REQUEST_BYTES,
                max_queue=4,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_INTERVAL_S,
                close_timeout=CLOSE_TIMEOUT_S,
                server_header=None,
                logger=_library_log,
            )
        except OSError as error:
            raise ConfigError(
                f"The sink cannot listen on {self._config.host} port {self._config.port}: {error.strerror or error}. "
                "Is another Callscope running? CALLSCOPE_SINK__PORT names another port, 0 takes any free one."
            ) from error
        self._telling = asyncio.create_task(self._tell_positions())

    @property
    def port(self) -> int:
        """The port that was opened; known after `start`."""
        assert self._server is not None, "started"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the dashboard."""
        host = self._config.host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104  # compared with, not bound to
            host = "127.0.0.1"
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    async def close(self) -> None:
        """Closes every connection with 1001, and breaks off those that do not answer."""
        if self._server is None:
            return
        if self._telling is not None:
            await _stop([self._telling])
        connections = list(self._server.connections)
        self._server.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._server.wait_closed()
        except TimeoutError:
            for connection in connections:
                connection.transport.abort()
            await self._server.wait_closed()

    async def _tell_positions(self) -> None:
        while True:
            await asyncio.sleep(POSITION_S)
            self._hub.tell_positions()

    def publish(self, messages: Iterable[Message]) -> None:
        """Hands messages to whoever follows them. To be called in the event loop."""
        for message in messages:
            delivery = self._hub.publish(message)
            if delivery.duplicate:
                telemetry.duplicate_dropped()
            elif delivery.dropped:
                telemetry.results_dropped(delivery.dropped)

    # ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers everything but a proper WebSocket opening, for which it returns None."""
        hosts = request.headers.get_all("Host")
        host = hosts[0] if len(hosts) == 1 else None
        if host is None or not is_known_host(host, loopback_only=self._loopback_only, origins=self._config.origins):
            return _response(HTTPStatus.MISDIRECTED_REQUEST, "This server is not known by that name.\n")
        if request.method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD.\n")
        path = request.path.partition("?")[0]
        try:
            if path == RESULTS_PATH:
                if refusal := self._refuse_origin(connection, request, host):
                    return refusal
                self._admit(connection, request)
                return None
            if path == "/metrics":
                self._access.grant(_token(request), "admin")
        except (Unauthorized, Forbidden) as error:
            telemetry.subscriber_refused(_peer(connection), type(error).__name__.lower(), str(error))
            return _unwelcome(error)
        response = self._answer_path(path, host)
        if request.method == "HEAD":
            response.body = b""
        return response

    def _refuse_origin(self, connection: ServerConnection, request: Request, host: str) -> Response | None:
        origins = request.headers.get_all("Origin")
        origin = origins[0] if origins else None
        if len(origins) <= 1 and is_allowed_origin(origin, host, self._config.origins):
            return None
        telemetry.subscriber_refused(_peer(connection), "origin", f"a page of {str(origin)[:100]!r}")
        return _response(
            HTTPStatus.FORBIDDEN, "Pages of this origin may not subscribe; CALLSCOPE_SINK__ORIGINS can allow it.\n"
        )

    def _admit(self, connection: ServerConnection, request: Request) -> None:
        assert isinstance(connection, Connection)
        connection.grant = self._access.grant(_token(request), "subscribe")

    def _answer_path(self, path: str, host: str) -> Response:
        if path == "/livez":  # who answers this, lives; whoever hangs is ended by its watchdog
            return _response(HTTPStatus.OK, '{"status": "ok"}\n', "application/json")
        if path in ("/healthz", "/readyz"):
            healthy = self._is_healthy()
            body = json.dumps({"status": "ok" if healthy else "not reading from Kafka"}) + "\n"
            status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
            return _response(status, body, "application/json")
        if path == "/metrics":
            telemetry.running_calls(self._hub.calls.count(self._clock_ns()))
            return _response(HTTPStatus.OK, generate_latest(), CONTENT_TYPE_LATEST)
        if path == "/microphone.json":
            return _response(HTTPStatus.OK, self._config.microphone.model_dump_json() + "\n", "application/json")
        page = self._pages.get(path)
        if page is None:
            return _response(HTTPStatus.NOT_FOUND, "There is nothing here. The dashboard is at /.\n")
        response = _response(HTTPStatus.OK, page.body, page.content_type)
        if path != MICROPHONE_PATH:
            response.headers["Content-Security-Policy"] = content_security_policy(host)
            return response
        microphone = self._config.microphone
        gateways = tuple(origin_of(url) for url in (microphone.stream, microphone.webrtc) if url)
        response.headers["Content-Security-Policy"] = content_security_policy(host, gateways)
        del response.headers["Permissions-Policy"]
        response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(self)"
        return response

    # ── WebSocket ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _serve_subscriber(self, connection: ServerConnection) -> None:
        peer = _peer(connection)
        if len(self._hub.subscribers) >= self._config.max_subscribers:
            reason = f"{self._config.max_subscribers} subscribers are connected, which is the limit. Try again later."
            telemetry.subscriber_refused(peer, "too_many_subscribers", reason)
            await _refuse(connection, Subscriber(10, lambda: None), "too_many_subscribers", reason, TOO_SLOW)
            return
        pushing = Pushing(connection, self._hub, self._clock_ns, self._past)
        subscriber = pushing.subscriber
        telemetry.subscriber_joined(peer)
        tasks = [
            asyncio.create_task(self._take_requests(connection, pushing)),
            asyncio.create_task(pushing.run()),
            asyncio.create_task(pushing.watch_queue()),
            asyncio.create_task(pushing.bring_back()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except ConnectionClosed:
            pass  # how most connections end; the code is logged below
        except SubscribeError as error:
            telemetry.subscriber_refused(peer, "bad_request", str(error))
            await _stop(tasks)
            await _refuse(connection, subscriber, "bad_request", str(error), BAD_REQUEST)
        except TooSlow:
            telemetry.subscriber_too_slow(peer)
            await _stop(tasks)
            await _close(connection, TOO_SLOW, "too slow")
        except CannotResume as error:
            telemetry.subscriber_refused(peer, "cannot_resume", str(error))
            await _stop(tasks)
            await _close(connection, TOO_SLOW, "what was missed cannot be read now; come again")
        finally:
            self._hub.leave(subscriber)
            await _stop(tasks)
            telemetry.subscriber_left(peer, connection.close_code, pushing.sent)

    async def _take_requests(self, connection: ServerConnection, pushing: Pushing) -> None:
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                request = await connection.recv()
        except TimeoutError as error:
            raise SubscribeError(
                f'Nothing was asked for within {SUBSCRIBE_TIMEOUT_S:.0f} s. Send {{"type": "subscribe"}}.'
            ) from error
        while True:
            assert isinstance(connection, Connection) and connection.grant is not None
            subscription = read_subscription(request, connection.grant.tenant)
            resumption = await self._resumption(subscription)
            pushing.replied.clear()
            self._hub.subscribe(pushing.subscriber, subscription, self._clock_ns(), resumption)
            pushing.is_behind.set()
            await pushing.replied.wait()  # one answer at a time waits in the queue, however fast requests come
            request = await connection.recv()

    async def _resumption(self, subscription: Subscription) -> Resumption | None:
        if subscription.resume is None:
            return None
        return Resumption() if self._past is None else await self._past.plan(self._hub, subscription)


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _refuse(connection: ServerConnection, subscriber: Subscriber, code: str, reason: str, close: int) -> None:
    with contextlib.suppress(ConnectionClosed, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await connection.send(subscriber.error(code, reason), text=True)
    await _close(connection, close, reason)


async def _close(connection: ServerConnection, code: int, reason: str) -> None:
    """Closes; a peer that reads nothing would let the closing wait for ever, and is broken off."""
    short = reason.encode()[:120].decode(errors="ignore")  # RFC 6455: a close frame carries at most 123 bytes of it
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await connection.close(code, short)
    except TimeoutError:
        connection.transport.abort()


def _token(request: Request) -> str | None:
    return bearer_token(request.headers.get("Authorization"), request.path)


def _unwelcome(error: Unauthorized | Forbidden) -> Response:
    if isinstance(error, Forbidden):
        return _response(HTTPStatus.FORBIDDEN, f"{error}\n")
    response = _response(HTTPStatus.UNAUTHORIZED, f"{error}\n")
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _peer(connection: ServerConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if address else "unknown"


def _response(status: HTTPStatus, body: str | bytes, content_type: str = "text/plain; charset=utf-8") -> Response:
    data = body.encode() if isinstance(body, str) else body
    headers = Headers(
        {"Content-Type": content_type, "Content-Length": str(len(data)), "Connection": "close", **SECURITY_HEADERS}
    )
    return Response(status.value, status.phrase, headers, data)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
