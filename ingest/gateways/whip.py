"""WebRTC's HTTP side, as WHIP has it (RFC 9725): offers in, answers out, candidates added, sessions ended."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import prometheus_client
from aiohttp import web

from callscope.access import Grant, bearer_token
from callscope.config import Scope
from callscope.errors import (
    BadHello,
    BadOffer,
    Forbidden,
    IngestError,
    NotPublished,
    Overloaded,
    StreamExists,
    TimedOut,
    TooManyFromOne,
    TooManyStreams,
    Unauthorized,
    UnknownSession,
)
from callscope.tls import server_context
from ingest import telemetry
from ingest.gateways.closing import SHUTTING_DOWN
from ingest.gateways.gate import Gate
from ingest.gateways.origins import is_allowed_origin, is_loopback
from ingest.protocols.events import Opened
from ingest.protocols.webrtc import MAX_SDP_BYTES, check_offer, read_fragment, read_query
from ingest.protocols.websocket import error_code
from ingest.source import Source

if TYPE_CHECKING:
    from ingest.gateways.peer import Peer

PATH: Final = "/v1/webrtc"
_STATUS: Final[dict[type[IngestError], HTTPStatus]] = {
    BadOffer: HTTPStatus.BAD_REQUEST,
    BadHello: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    TimedOut: HTTPStatus.REQUEST_TIMEOUT,
    UnknownSession: HTTPStatus.NOT_FOUND,
    StreamExists: HTTPStatus.CONFLICT,
    TooManyStreams: HTTPStatus.SERVICE_UNAVAILABLE,
    TooManyFromOne: HTTPStatus.TOO_MANY_REQUESTS,
    NotPublished: HTTPStatus.SERVICE_UNAVAILABLE,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
}
_SHUTDOWN_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class _Session:
    peer: Peer
    running: asyncio.Task[None]
    tenant: str
    address: str


class WhipListener:
    """The open port and its peers.

    Args:
        gate: what it works with.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._ingest = gate.settings.ingest
        self._settings = gate.settings.ingest.webrtc
        self._sessions: dict[str, _Session] = {}
        self._negotiating = 0
        self._is_closing = False
        self.address = ""
        application = web.Application(client_max_size=MAX_SDP_BYTES, middlewares=[self._answer])
        for path in ("/healthz", "/livez", "/readyz"):
            application.router.add_get(path, self._healthz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_options(PATH, self._options)
        application.router.add_options(PATH + "/{session}", self._options)
        application.router.add_post(PATH, self._offer)
        application.router.add_patch(PATH + "/{session}", self._candidates)
        application.router.add_delete(PATH + "/{session}", self._delete)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)

    async def start(self, port: int) -> None:
        """Open the port.

        Raises:
            OSError: it cannot be had.
            ConfigError: the certificate cannot be loaded.
        """
        await self._runner.setup()
        context = server_context(self._ingest.tls, "ingest.tls")
        await web.TCPSite(self._runner, self._ingest.host, port, ssl_context=context).start()
        host, self.port = self._runner.addresses[0][:2]
        scheme = "http" if context is None else "https"
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{PATH}"

    async def close(self) -> None:
        """End every peer, and return when all their streams have been ended."""
        self._is_closing = True
        for session in self._sessions.values():
            session.peer.end(SHUTTING_DOWN)
        await asyncio.gather(*(session.running for session in self._sessions.values()), return_exceptions=True)
        await self._runner.cleanup()

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────────

    @web.middleware
    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuse pages of strangers, answer errors with their reason, and add what browsers want to see."""
        origin = request.headers.get("Origin")
        ingest, host = self._ingest, request.headers.get("Host")
        if not is_allowed_origin(origin, host=ingest.host, origins=ingest.origins, requested=host):
            problem = "Pages of this origin may not send; CALLSCOPE_INGEST__ORIGINS can allow it."
            telemetry.error(HTTPStatus.FORBIDDEN.value, str(request.remote), problem)
            return web.json_response({"code": "forbidden", "message": problem}, status=HTTPStatus.FORBIDDEN)
        response: web.StreamResponse
        try:
            response = await handler(request)
        except IngestError as error:
            response = _refusal(request, error)
        except web.HTTPRequestEntityTooLarge:
            response = _refusal(request, BadOffer(f"More than {MAX_SDP_BYTES} bytes came."))
            response.set_status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "Location, Link"
            response.headers["Vary"] = "Origin"
        return response

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        self._grant(request, "admin")
        return web.Response(
            body=prometheus_client.generate_latest(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
        )

    async def _options(self, request: web.Request) -> web.Response:
        """A browser's question before it sends (no token comes with that), or a client's for STUN and TURN servers."""
        response = web.Response(status=HTTPStatus.NO_CONTENT)
        response.headers["Accept-Post"] = "application/sdp"
        if "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = "POST, PATCH, DELETE, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
            response.headers["Access-Control-Max-Age"] = "600"
        else:
            self._grant(request, "publish")
            self._add_ice_servers(response)
        return response

    async def _offer(self, request: web.Request) -> web.Response:
        grant = self._grant(request, "publish")
        if request.content_type != "application/sdp":
            raise BadOffer(f"The offer comes as application/sdp, not {request.content_type[:64]!r}.")
        opened = read_query(list(request.query.items()))
        sdp = await self._text(request)
        check_offer(sdp, len(opened))
        if self._is_closing or len(self._sessions) + self._negotiating >= self._settings.max_peers:
            raise TooManyStreams(f"This gateway has {self._settings.max_peers} WebRTC peers or is closing. Try later.")
        address = str(request.remote)
        limit = self._ingest.limits.connections_per_address
        if sum(session.address == address for session in self._sessions.values()) >= limit:
            raise TooManyFromOne(f"This address has {limit} WebRTC peers, which is the limit.")
        self._negotiating += 1
        try:
            session_id, answer = await self._begin(opened, grant, sdp, address)
        finally:
            self._negotiating -= 1
        response = web.Response(status=HTTPStatus.CREATED, text=answer, content_type="application/sdp")
        response.headers["Location"] = f"{PATH}/{session_id}"
        self._add_ice_servers(response)
        return response

    async def _candidates(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if request.content_type != "application/trickle-ice-sdpfrag":
            raise BadOffer(f"Candidates come as application/trickle-ice-sdpfrag, not {request.content_type[:64]!r}.")
        await session.peer.add(read_fragment(await self._text(request)))
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _delete(self, request: web.Request) -> web.Response:
        session = self._session(request)
        session.peer.end("end")
        await asyncio.wait({session.running})
        return web.Response(status=HTTPStatus.OK)

    # ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self, opened: tuple[Opened, ...], grant: Grant, sdp: str, address: str) -> tuple[str, str]:
        """A peer for the offer, and its streams; returns the session's id and the answer."""
        # A third of a second the first time, and other streams go on.
        module = await asyncio.to_thread(importlib.import_module, "ingest.gateways.peer")
        peer: Peer = module.Peer(opened, self._settings, self._ingest.idle_timeout_s, self._addresses())
        sources: list[Source] = []
        try:
            answer = await peer.negotiate(sdp)
            for one in opened:
                source = await self._gate.intake.open(one, grant)
                sources.append(source)
        except BaseException as error:
            for source in sources:
                with contextlib.suppress(NotPublished):  # the offer is refused for the first error anyway
                    await source.end(str(error), 0, whole=False)
            await peer.close()
            raise
        session_id = secrets.token_urlsafe(16)
        running = asyncio.create_task(peer.run(sources))
        self._sessions[session_id] = _Session(peer, running, grant.tenant, address)
        telemetry.webrtc_peers(len(self._sessions))
        running.add_done_callback(lambda _: self._forget(session_id))
        return session_id, answer

    def _forget(self, session_id: str) -> None:
        del self._sessions[session_id]
        telemetry.webrtc_peers(len(self._sessions))

    def _session(self, request: web.Request) -> _Session:
        grant = self._grant(request, "publish")
        session = self._sessions.get(request.match_info["session"])
        if session is None or session.tenant != grant.tenant:
            raise UnknownSession("There is no such WebRTC session here; it may have ended. Send a new offer.")
        return session

    def _grant(self, request: web.Request, scope: Scope) -> Grant:
        token = bearer_token(request.headers.get("Authorization"), request.path_qs)
        return self._gate.access.grant(token, scope)

    async def _text(self, request: web.Request) -> str:
        try:
            async with asyncio.timeout(self._ingest.hello_timeout_s):
                return await request.text()
        except TimeoutError:
            raise TimedOut(f"The request did not come within {self._ingest.hello_timeout_s:g} s.") from None
        except (UnicodeDecodeError, LookupError) as error:
            raise BadOffer("SDP is UTF-8 text, and this is not.") from error

    def _addresses(self) -> tuple[str, ...]:
        if self._settings.addresses:
            return self._settings.addresses
        return ("127.0.0.1",) if is_loopback(self._ingest.host) else ()

    def _add_ice_servers(self, response: web.Response) -> None:
        """RFC 9725 section 4.6; TURN's credential goes to whoever may publish, and to nobody else."""
        for url in self._settings.ice_servers:
            link = f'<{url}>; rel="ice-server"'
            if url.startswith("turn"):
                credential = self._settings.turn_credential.get_secret_value()
                link += f'; username="{self._settings.turn_username}"; credential="{credential}"'
                link += '; credential-type="password"'
            response.headers.add("Link", link)


def _refusal(request: web.Request, error: IngestError) -> web.Response:
    status = _STATUS.get(type(error), HTTPStatus.BAD_REQUEST)
    telemetry.error(status.value, str(request.remote), str(error))
    response = web.json_response(
        {"code": error_code(error), "retriable": error.retriable, "message": str(error)}, status=status
    )
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
