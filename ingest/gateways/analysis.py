"""`VoiceAnalysis.StreamAnalysis`: moves messages between a gRPC call, its pure cores, the intake and the results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from callscope.access import Grant
from callscope.clock import monotonic, wall_ns
from callscope.errors import GatewayStopping, IngestError, ResultsLate, TimedOut, TooSlow
from callscope.streams import StreamId, topic_call_id
from ingest.gateways.closing import SHUTTING_DOWN, why_failed
from ingest.gateways.gate import Gate
from ingest.gateways.grpc_calls import Context, Gone, GrpcCalls, read, token_of, why_gone, write
from ingest.protocols.events import Audio, Consented, Event, Missing, Opened
from ingest.protocols.grpc_results import GrpcResults
from ingest.protocols.grpc_stream import GrpcStream
from ingest.results import ResultsReader
from ingest.source import Source
from schemas.v1.analysis_pb2 import AudioChunk
from schemas.v1.analysis_pb2_grpc import VoiceAnalysisServicer

_SETTLE_S: Final = 0.1
"""voice.activity does not say when a stream has ended; it is written before the topics that do, and read as soon."""
_POLL_S: Final = 0.01


class Analysis(VoiceAnalysisServicer):
    """The service.

    Args:
        gate: settings, intake, access.
        calls: the calls of the port.
        reader: hands out results.
    """

    def __init__(self, gate: Gate, calls: GrpcCalls, reader: ResultsReader) -> None:
        self._gate = gate
        self._calls = calls
        self._reader = reader

    async def StreamAnalysis(self, request_iterator: AsyncIterator[AudioChunk], context: Context) -> None:  # type: ignore[override]  # written to by `context.write`
        """Serve one call."""
        await self._calls.serve(context, _Call(context, self._gate, self._calls, self._reader).serve())


class _Call:
    """One client's call, from the start to the status."""

    def __init__(self, context: Context, gate: Gate, calls: GrpcCalls, reader: ResultsReader) -> None:
        self._context = context
        self._gate = gate
        self._settings = gate.settings.ingest
        self._calls = calls
        self._reader = reader
        self._protocol = GrpcStream()
        self._sources: dict[str | None, Source] = {}
        self._results: GrpcResults | None = None
        self._ready = asyncio.Event()
        self._sent = asyncio.Event()
        self._waiting_since: float | None = None
        self._writing_since: float | None = None

    async def serve(self) -> None:
        grant = self._gate.access.grant(token_of(self._context), "publish")
        with self._calls.limits.of_tenant(grant.tenant) as self._paces:
            await self._serve(grant)

    async def _serve(self, grant: Grant) -> None:
        opened = await self._start()
        start = self._protocol.start
        assert start is not None
        ours = [StreamId(topic_call_id(grant.tenant, s.call_id), s.leg) for s in self._protocol.streams]
        self._results = GrpcResults(
            ours, start.call_id, start, self._settings.grpc.queue_results, on_ready=self._ready.set
        )
        with self._reader.following(ours, self._results):
            sending = asyncio.create_task(self._send(self._results))
            try:
                await self._stream(opened, grant, sending)
                await self._while_sending(self._last_results(self._results), sending)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _start(self) -> list[Opened]:
        limit_s = self._settings.hello_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                chunk = await read(self._context)
        except TimeoutError:
            raise TimedOut(f"No start came within {limit_s:g} s. Send it as soon as the call is open.") from None
        if chunk is None:
            self._protocol.half_closed()
        return [event for event in self._protocol.receive(chunk) if isinstance(event, Opened)]

    async def _stream(self, opened: list[Opened], grant: Grant, sending: asyncio.Task[None]) -> None:
        """Receive until the client half-closes, and end the sources whatever happens."""
        reason, whole = "gateway error", False
        try:
            for source in opened:
                leg = source.streams[0].leg if len(opened) > 1 else None
                self._sources[leg] = await self._gate.intake.open(source, grant)
            assert self._results is not None
            self._results.answer(self._protocol.ready())
            await self._while_sending(self._receive(), sending)
            reason, whole = "end", True
        except IngestError as error:
            reason = SHUTTING_DOWN if isinstance(error, GatewayStopping) else why_failed(error)
            raise
        except (Gone, asyncio.CancelledError) as error:
            reason = why_gone(self._context)
            raise Gone(reason) from error
        finally:
            await self._end(reason, whole=whole)
        for source_ in self._sources.values():
            await source_.delivered(in_kafka=True)

    async def _end(self, reason: str, *, whole: bool) -> None:
        """End every source; the first error is raised when all have been."""
        ends = [source.end(reason, wall_ns(), whole=whole) for source in self._sources.values()]
        for error in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(error, BaseException):
                raise error

    async def _receive(self) -> None:
        """Hand on audio until the client says that this was all. What is not read here waits in the transport."""
        while True:
            self._waiting_since = monotonic()
            chunk = await read(self._context, self._paces)
            self._waiting_since = None
            if chunk is None:
                self._protocol.half_closed()
                return
            for event in self._protocol.receive(chunk):
                await self._take(event)

    async def _take(self, event: Event) -> None:
        match event:
            case Audio(data, leg, captured_ns):
                await self._sources[leg].audio(data, wall_ns(), captured_ns)
            case Missing(samples, reason, leg):
                await self._sources[leg].missing(samples, reason, wall_ns())
            case Consented() as consented:
                since: dict[StreamId, int] = {}
                for source in self._sources.values():
                    since |= await source.consent(consented)
                assert self._results is not None
                self._results.answer(self._protocol.consented(consented, since))

    async def _while_sending(self, work: Any, sending: asyncio.Task[None]) -> None:
        """Do some work, while the watch is kept, until either of them or the sending ends."""
        working = asyncio.create_task(work)
        watching = asyncio.create_task(self._watch())
        stopping = asyncio.create_task(self._calls.stopping.wait())
        tasks = (working, watching, stopping)
        try:
            await asyncio.wait((*tasks, sending), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
            elif watching.done():
                await watching
            elif sending.done():
                await sending
            else:
                raise GatewayStopping("The gateway shuts down. What had come was published; open the rest anew.")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Queue acknowledgements; find lost records, silent clients, and such as do not read."""
        limit_s = self._settings.idle_timeout_s
        assert self._results is not None
        while True:
            await asyncio.sleep(self._settings.ack_interval_s)
            for source in self._sources.values():
                source.check()
            if self._waiting_since is not None and monotonic() - self._waiting_since > limit_s:
                raise TimedOut(f"Nothing came for {limit_s:g} s. Send silence while there is nothing to hear.")
            if self._results.too_slow:
                raise TooSlow("Results are not read as fast as they come, and final ones would be lost. Ask for less.")
            if self._writing_since is not None and monotonic() - self._writing_since > limit_s:
                raise TooSlow(f"No result has been read for {limit_s:g} s.")
            if ack := self._protocol.published(self._published()):
                self._results.answer(ack)

    async def _send(self, results: GrpcResults) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            while message := results.next(wall_ns()):
                self._writing_since = monotonic()
                await write(self._context, message)
                self._writing_since = None
            self._sent.set()

    async def _last_results(self, results: GrpcResults) -> None:
        """Wait until everything that comes of the audio has come, say so, and see it sent."""
        limit_s = self._settings.grpc.results_timeout_s
        heard, since = results.heard, monotonic()
        while not results.complete:
            if results.heard != heard:
                heard, since = results.heard, monotonic()
            elif monotonic() - since > limit_s:
                raise ResultsLate(
                    f"All audio is safe, but no result of it came for {limit_s:g} s, and the last ones are missing. Do "
                    "the processors run? The results will be on the topics; do not send the audio again."
                )
            await asyncio.sleep(_POLL_S)
        await asyncio.sleep(_SETTLE_S)
        padded = {stream: source.padded for source in self._sources.values() for stream in source.published()}
        self._sent.clear()
        results.answer(self._protocol.ended(self._published(), padded))
        await self._sent.wait()

    def _published(self) -> dict[StreamId, int]:
        return {stream: at for source in self._sources.values() for stream, at in source.published().items()}
