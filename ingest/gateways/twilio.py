"""Twilio Media Streams and its dialects: from a socket through `ingest.protocols.twilio` to the intake."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from callscope.access import Grant, bearer_token
from callscope.clock import monotonic, wall_ns
from callscope.config import Scope, Twilio, TwilioAccount
from callscope.errors import Forbidden, IngestError, TimedOut, Unauthorized
from ingest import telemetry
from ingest.gateways import closing
from ingest.gateways.gate import Gate
from ingest.gateways.watching import receive_and_watch
from ingest.gateways.websocket import Connection
from ingest.protocols.events import Audio, Ended, Event, Marked, Missing, Opened
from ingest.protocols.twilio import TwilioProtocol
from ingest.protocols.twilio_signature import carries_signature, signer
from ingest.protocols.twilio_start import Start
from ingest.source import Source

_PUBLISH: Final[frozenset[Scope]] = frozenset({"publish"})


async def admit(request: Request, gate: Gate) -> Grant | None:
    """Let in whoever signed the request with an account's secret, or has a token; None where the start may bring one.

    Raises:
        Unauthorized: the token is not known.
        Forbidden: the signature is wrong, or the token not good for this.
    """
    settings = gate.settings.ingest.twilio
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    if settings.accounts and carries_signature(headers):
        url = public_url(settings, request.path, headers)
        place = signer([account.secret.get_secret_value() for account in settings.accounts], url, headers)
        if place is None:
            raise Forbidden(
                f"The signature is not right for {url} with any account that is configured. The address must be what "
                "the platform was given: see ingest.twilio.public_url."
            )
        return Grant(settings.accounts[place].tenant, _PUBLISH, _signed_by(settings.accounts[place]))
    token = _password(headers) or bearer_token(headers.get("authorization"), request.path)
    return None if token is None else _granted(token, gate)


def public_url(settings: Twilio, target: str, headers: Mapping[str, str]) -> str:
    """The address by which a request came from outside.

    Args:
        settings: the configured address; or, if it trusts them, the proxy's headers tell.
        target: the request's path and query.
        headers: of the request, names in lower case.
    """
    path, question, query = target.partition("?")
    if settings.public_url is not None:
        configured, _, _ = settings.public_url.partition("?")
        return configured + question + query
    scheme = headers.get("x-forwarded-proto", "https").partition(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "")).partition(",")[0].strip()
    return f"{'ws' if scheme in ('http', 'ws') else 'wss'}://{host}{path}{question}{query}"


async def serve(connection: Connection, gate: Gate) -> None:
    """One stream of a platform, from its first message to the close frame."""
    await _MediaStream(connection, gate).serve()


class _MediaStream:
    def __init__(self, connection: Connection, gate: Gate) -> None:
        settings = gate.settings.ingest
        legs = {"inbound": settings.twilio.inbound_leg, "outbound": settings.twilio.outbound_leg}
        self._connection = connection
        self._gate = gate
        self._settings = settings
        self._protocol = TwilioProtocol(legs, settings.twilio.reorder_window_ms)
        self._grant = connection.grant
        self._sources: dict[str, Source] = {}
        self._ends = AsyncExitStack()
        self._ended = False
        self._reason = "gateway error"
        self._waiting_since: float | None = None

    async def serve(self) -> None:
        try:
            try:
                await self._receive_and_watch()
            finally:
                await self._finish()
            for source in self._sources.values():
                await source.delivered()
            await self._connection.close()
        except IngestError as error:
            await closing.refuse(self._connection, error)
        except ConnectionClosed as closed:
            closing.count(self._connection, closed)

    async def _receive_and_watch(self) -> None:
        try:
            await receive_and_watch(self._receive(), self._watch())
            self._reason = "end"
        except IngestError as error:
            self._reason = closing.why_failed(error)
            raise
        except ConnectionClosed as closed:
            # A platform that closes as it should has said that this was all: Plivo sends no stop.
            closed_well = closed.rcvd_then_sent and closed.rcvd is not None and closed.rcvd.code == 1000
            self._reason = "end" if closed_well else closing.why_closed(closed)
            raise

    async def _receive(self) -> None:
        """Hand on audio until the platform stops the stream. What is not read here waits in the socket."""
        while not self._ended:
            self._waiting_since = monotonic()
            message = await self._connection.recv()
            self._waiting_since = None
            begins = self._protocol.start is None
            events = self._protocol.receive(message)
            if begins and self._protocol.start is not None:
                self._grant = self._admitted(self._protocol.start)
            await self._apply(events)

    async def _watch(self) -> None:
        """Find lost records, and platforms that do not begin or have gone silent."""
        connected = monotonic()
        while True:
            await asyncio.sleep(self._settings.ack_interval_s)
            for source in self._sources.values():
                source.check()
            now = monotonic()
            if self._protocol.start is None and now - connected > self._settings.hello_timeout_s:
                raise TimedOut(f"No start message came within {self._settings.hello_timeout_s:g} s.")
            if self._waiting_since is not None and now - self._waiting_since > self._settings.idle_timeout_s:
                raise TimedOut(f"Nothing came for {self._settings.idle_timeout_s:g} s.")

    def _admitted(self, start: Start) -> Grant:
        """What the sender may do, now that the last it can bring has come."""
        grant = self._grant or _granted(start.token, self._gate)
        for account in self._settings.twilio.accounts:
            if _signed_by(account) == grant.name and account.account not in (None, start.account):
                raise Forbidden(f"The stream belongs to another account than the one that signed, {account.name!r}.")
        return grant

    async def _apply(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Audio(data, leg) if leg in self._sources:  # a leg that could not be opened has no source
                    await self._sources[leg].audio(data, wall_ns())
                case Missing(samples, reason, leg) if leg in self._sources:
                    await self._sources[leg].missing(samples, reason, wall_ns())
                case Opened() as opened:
                    assert self._grant is not None
                    source = await self._gate.intake.open(opened, self._grant)
                    self._sources[opened.streams[0].leg] = source
                    self._ends.push_async_callback(self._end, source)
                case Marked() as marked:
                    for source in self._sources.values():
                        await source.mark(marked)
                case Ended():
                    self._ended = True

    async def _finish(self) -> None:
        """Publish what still waited for missing audio, and end every stream, whatever happens."""
        async with self._ends:
            if self._protocol.start is not None and not self._ended:
                await self._apply(self._protocol.closed())
        if (start := self._protocol.start) is not None:
            telemetry.media_stream_ended(
                start.vendor, start.call_id, self._protocol.late, self._protocol.unheeded, self._protocol.unseen
            )

    async def _end(self, source: Source) -> None:
        await source.end(self._reason, wall_ns(), whole=False)


def _granted(token: str | None, gate: Gate) -> Grant:
    """What the bearer of a token may do. Where accounts are configured, nobody comes in with neither."""
    if gate.access.is_open and gate.settings.ingest.twilio.accounts:
        raise Unauthorized("The request is not signed, and no tokens are configured that could let it in.")
    return gate.access.grant(token, "publish")


def _signed_by(account: TwilioAccount) -> str:
    return f"account {account.name}"


def _password(headers: Mapping[str, str]) -> str | None:
    """The password of Basic authentication, which carries the token (Exotel)."""
    scheme, _, written = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(written.strip(), validate=True).decode().partition(":")[2] or None
    except (binascii.Error, UnicodeDecodeError):
        return None
