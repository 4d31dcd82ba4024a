"""Webex Contact Center's media forking: moves messages between gRPC calls, `ingest.protocols.webex` and the intake."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

from callscope.access import Grant
from callscope.clock import monotonic, wall_ns
from callscope.errors import Forbidden, GatewayStopping, IngestError, Replaced, TimedOut
from ingest import telemetry
from ingest.gateways.closing import SHUTTING_DOWN, why_failed
from ingest.gateways.gate import Gate
from ingest.gateways.grpc_calls import Context, Gone, GrpcCalls, read, token_of, why_gone, write
from ingest.protocols.events import Audio, Event, Marked, Missing, Opened
from ingest.protocols.webex import SOURCE, WebexStream, failed, succeeded
from ingest.source import Source
from ingest.webex_tokens import WebexTokens
from schemas.webex.conversationaudioforking_pb2 import ConversationAudioForkingRequest
from schemas.webex.conversationaudioforking_pb2_grpc import ConversationAudioServicer

BUFFER_BYTES: Final = 1 << 20
"""Audio of one conversation that may wait for Kafka: half a minute of two legs at 16 kHz. Then pieces are discarded,
because Webex cannot be slowed down."""

_Key: TypeAlias = tuple[str, str]


class _Conversation:
    """A conversation's state, which outlives a connection that broke.

    Attributes:
        stream: its pure core.
        sources: its legs, by name.
        call: the gRPC call that carries it now; None while it waits for one.
        expiry: ends it, while it waits.
    """

    def __init__(self, call: _Call) -> None:
        self.stream = WebexStream()
        self.sources: dict[str, Source] = {}
        self.call: _Call | None = call
        self.expiry: asyncio.Task[None] | None = None
        self.given_up = asyncio.Event()

    async def end(self, reason: str, *, whole: bool) -> None:
        """End every leg; the first error is raised when all have been."""
        ends = [source.end(reason, wall_ns(), whole=whole) for source in self.sources.values()]
        for error in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(error, BaseException):
                raise error


class MediaForking(ConversationAudioServicer):
    """The service.

    Args:
        gate: settings, intake, access.
        calls: the calls of the port.
    """

    def __init__(self, gate: Gate, calls: GrpcCalls) -> None:
        self.gate = gate
        self.calls = calls
        self.tokens = WebexTokens(gate.settings.ingest.webex, gate.access)
        self._conversations: dict[_Key, _Conversation] = {}

    async def StreamConversationAudio(  # type: ignore[override]  # written to by `context.write`
        self, request_iterator: AsyncIterator[ConversationAudioForkingRequest], context: Context
    ) -> None:
        """Serve one call."""
        await self.calls.serve(context, _Call(context, self).serve())

    async def take_over(self, key: _Key, call: _Call) -> _Conversation:
        """The conversation of that name, to be carried by `call` from now on; a new one if there is none."""
        while (known := self._conversations.get(key)) is not None:
            if known.call is None:
                if known.expiry is not None:
                    known.expiry.cancel()
                known.call = call
                known.given_up.clear()
                known.stream.reconnected()
                for source in known.sources.values():
                    await source.mark(Marked("reconnected"))
                return known
            known.call.replaced.set()
            await known.given_up.wait()
        self._conversations[key] = fresh = _Conversation(call)
        return fresh

    def park(self, key: _Key, conversation: _Conversation, reason: str) -> None:
        """Let a conversation wait for another call; after `reconnect_s` it ends."""
        conversation.call = None
        conversation.expiry = asyncio.create_task(self._expire(key, conversation, reason))
        conversation.given_up.set()

    async def forget(self, key: _Key, conversation: _Conversation, reason: str, *, whole: bool) -> None:
        """End a conversation.

        Raises:
            IngestError: Kafka did not take its end.
        """
        try:
            await conversation.end(reason, whole=whole)
        finally:
            self._conversations.pop(key, None)
            conversation.call = None
            conversation.given_up.set()

    async def close(self) -> None:
        """End the conversations that wait for a call."""
        for key, conversation in list(self._conversations.items()):
            if conversation.expiry is not None:
                conversation.expiry.cancel()
            await self._forget_quietly(key, conversation, SHUTTING_DOWN)

    async def _expire(self, key: _Key, conversation: _Conversation, reason: str) -> None:
        await asyncio.sleep(self.gate.settings.ingest.webex.reconnect_s)
        await self._forget_quietly(key, conversation, reason)

    async def _forget_quietly(self, key: _Key, conversation: _Conversation, reason: str) -> None:
        try:
            await self.forget(key, conversation, reason, whole=False)
        except IngestError as error:  # nobody is left to tell
            telemetry.call_refused(type(error).__name__, "nobody", str(error))


class _Call:
    """One gRPC call."""

    def __init__(self, context: Context, service: MediaForking) -> None:
        self._context = context
        self._service = service
        self._settings = service.gate.settings.ingest
        self.replaced = asyncio.Event()
        self._waiting: deque[ConversationAudioForkingRequest | None] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._heard_at = monotonic()

    async def serve(self) -> None:
        grant = await self._service.tokens.grant(token_of(self._context))
        try:
            with self._service.calls.limits.of_tenant(grant.tenant) as self._paces:
                await self._serve(grant)
        except IngestError as error:
            if not self._context.cancelled():
                await write(self._context, failed(error))
            raise

    async def _serve(self, grant: Grant) -> None:
        first = await self._first()
        if first is None:
            WebexStream().half_closed()
            return
        self._check_organisation(first.customer_org_id)
        WebexStream().receive(first)  # refuses what cannot be served, before anything is kept
        key = grant.tenant, first.conversation_id
        conversation = await self._service.take_over(key, self)
        reason, whole, parks = "gateway error", False, False
        try:
            await self._run(conversation, first, grant)
            reason, whole = "end", True
        except Replaced:
            reason, parks = "connection lost", True
            raise
        except IngestError as error:
            reason = SHUTTING_DOWN if isinstance(error, GatewayStopping) else why_failed(error)
            raise
        except (Gone, asyncio.CancelledError) as error:
            reason, parks = why_gone(self._context), True
            raise Gone(reason) from error
        finally:
            if parks and not self._service.calls.stopping.is_set():
                self._service.park(key, conversation, reason)
            else:
                await self._service.forget(key, conversation, reason, whole=whole)
        for source in conversation.sources.values():
            await source.delivered()
        await write(self._context, succeeded())

    async def _first(self) -> ConversationAudioForkingRequest | None:
        limit_s = self._settings.hello_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                message: ConversationAudioForkingRequest | None = await read(self._context)
                return message
        except TimeoutError:
            raise TimedOut(f"No message came within {limit_s:g} s.") from None

    def _check_organisation(self, organisation: str) -> None:
        served = self._settings.webex.organisations
        if served and organisation not in served:
            raise Forbidden(f"Organisation {organisation[:64]!r} is not served here (ingest.webex.organisations).")

    async def _run(self, conversation: _Conversation, first: ConversationAudioForkingRequest, grant: Grant) -> None:
        """Read and publish beside one another until the end, or until something else ends the call."""
        self._put(first)
        work = asyncio.create_task(self._publish(conversation, grant))
        reading = asyncio.create_task(self._read(conversation))
        watching = asyncio.create_task(self._watch(conversation))
        replaced = asyncio.create_task(self.replaced.wait())
        stopping = asyncio.create_task(self._service.calls.stopping.wait())
        tasks: tuple[asyncio.Task[Any], ...] = (work, reading, watching, replaced, stopping)
        try:
            waiting = set(tasks)
            while not work.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if replaced in done:
                    raise Replaced("The same conversation came over another connection, which goes on with it.")
                if stopping in done:
                    raise GatewayStopping("The gateway shuts down. What had come was published.")
                for task in (reading, watching):
                    if task in done:
                        await task
            await work
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, conversation: _Conversation) -> None:
        """Take what comes as fast as it comes: where there is no room, it is discarded."""
        while True:
            request = await read(self._context, self._paces)
            self._heard_at = monotonic()
            if request is None:
                self._put(None)
                return
            size = len(request.audio.audio_data)
            if self._waiting_bytes + size > BUFFER_BYTES:
                conversation.stream.shed(request)
                telemetry.audio_shed(SOURCE, size)
            else:
                self._put(request)

    def _put(self, request: ConversationAudioForkingRequest | None) -> None:
        if request is not None:
            self._waiting_bytes += len(request.audio.audio_data)
        self._waiting.append(request)
        self._news.set()

    async def _publish(self, conversation: _Conversation, grant: Grant) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                request = self._waiting.popleft()
                if request is None:
                    conversation.stream.half_closed()
                    return
                for event in conversation.stream.receive(request):
                    await self._take(event, conversation, grant)
                self._waiting_bytes -= len(request.audio.audio_data)

    async def _take(self, event: Event, conversation: _Conversation, grant: Grant) -> None:
        match event:
            case Opened():
                conversation.sources[event.streams[0].leg] = await self._service.gate.intake.open(event, grant)
            case Audio(data, str(leg), captured_ns):
                await conversation.sources[leg].audio(data, wall_ns(), captured_ns)
            case Missing(samples, reason, str(leg)):
                await conversation.sources[leg].missing(samples, reason, wall_ns())

    async def _watch(self, conversation: _Conversation) -> None:
        limit_s = self._settings.idle_timeout_s
        while True:
            await asyncio.sleep(self._settings.ack_interval_s)
            for source in conversation.sources.values():
                source.check()
            if monotonic() - self._heard_at > limit_s:
                raise TimedOut(f"Nothing came for {limit_s:g} s.")
