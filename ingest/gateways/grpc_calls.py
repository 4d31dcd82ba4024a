"""How gRPC calls are let in and how they end: tokens from metadata, errors as statuses, shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import grpc

from callscope.access import bearer_token
from callscope.errors import (
    BadAudio,
    BadHello,
    BadMessage,
    Forbidden,
    GatewayStopping,
    IngestError,
    KeysUnavailable,
    NotPublished,
    Overloaded,
    Replaced,
    ResultsLate,
    StreamExists,
    TimedOut,
    TooManyFromOne,
    TooManyStreams,
    TooSlow,
    Unauthorized,
)
from ingest import telemetry
from ingest.gateways.grpc_limits import CallLimits, Paces
from ingest.protocols.explaining import printable
from ingest.protocols.websocket import error_code

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

STATUSES: Final[Mapping[type[IngestError], grpc.StatusCode]] = {
    BadHello: grpc.StatusCode.INVALID_ARGUMENT,
    BadMessage: grpc.StatusCode.INVALID_ARGUMENT,
    BadAudio: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    StreamExists: grpc.StatusCode.ALREADY_EXISTS,
    TooManyFromOne: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooManyStreams: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooSlow: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TimedOut: grpc.StatusCode.ABORTED,
    Replaced: grpc.StatusCode.ABORTED,
    ResultsLate: grpc.StatusCode.DEADLINE_EXCEEDED,
    NotPublished: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.UNAVAILABLE,
    KeysUnavailable: grpc.StatusCode.UNAVAILABLE,
    GatewayStopping: grpc.StatusCode.UNAVAILABLE,
}
"""The status of each error; of one that is not here, FAILED_PRECONDITION."""

_AFTER_EOF_S: Final = 0.02


class Gone(Exception):
    """The client has cancelled the call, its deadline is over, or its connection was lost: nobody is left to tell."""


class GrpcCalls:
    """The calls that are being served.

    Args:
        limits: of addresses and tenants.

    Attributes:
        stopping: set when they are to end.
        limits: the same.
    """

    def __init__(self, limits: CallLimits) -> None:
        self.limits = limits
        self.stopping = asyncio.Event()
        self._running: set[asyncio.Task[Any]] = set()

    async def serve(self, context: Context, work: Coroutine[Any, Any, None]) -> None:
        """Do a call's work, and end it with the status that its error stands for."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            with self.limits.of_address(peer(context)):
                await work
        except IngestError as error:
            await _refuse(context, error)
        except Gone as gone:
            telemetry.call_refused("CANCELLED", peer(context), str(gone))
            raise asyncio.CancelledError from gone
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as error:
            telemetry.call_failed(peer(context), error)
            await context.abort(grpc.StatusCode.INTERNAL, "A fault of the gateway; its log has it.")
        finally:
            work.close()  # it may not have begun
            self._running.discard(task)

    async def finished(self, timeout_s: float) -> None:
        """Return when no call is served any more, or the time is over."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout_s)


async def read(context: Context, paces: Paces | None = None) -> Any:
    """The next message, None after the client half-closed.

    Args:
        context: the call's.
        paces: how fast messages may come.

    Raises:
        Gone: there will be none.
    """
    try:
        message = await context.read()
        if message is not grpc.aio.EOF:
            if paces is not None:
                await paces.hold(message.ByteSize())
            return message
        # A call that breaks off shows the same end of file; that it has been cancelled is known a moment later.
        await asyncio.sleep(_AFTER_EOF_S)
    except grpc.aio.BaseError as error:
        raise Gone(why_gone(context)) from error
    if context.cancelled():
        raise Gone(why_gone(context))
    return None


async def write(context: Context, message: Any) -> None:
    """Send a message; returns when the transport has taken it.

    Raises:
        Gone: there is nobody to send it to.
    """
    try:
        await context.write(message)
    except grpc.aio.BaseError as error:
        raise Gone(why_gone(context)) from error


def why_gone(context: Context) -> str:
    """Why a call ended that its client did not end, for `call.events`."""
    remaining = context.time_remaining()
    return "deadline exceeded" if remaining is not None and remaining <= 0 else "connection lost"


def token_of(context: Context) -> str | None:
    """The bearer token in the call's metadata, None if there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return bearer_token(value if isinstance(value, str) else value.decode(errors="replace"), "")
    return None


def peer(context: Context) -> str:
    """The client's address, for logs: "ipv4:127.0.0.1:1234" without what is before and after the address."""
    return unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]") or "unknown"


async def _refuse(context: Context, error: IngestError) -> None:
    status = STATUSES.get(type(error), grpc.StatusCode.FAILED_PRECONDITION)
    reason = printable(str(error))
    telemetry.call_refused(status.name, peer(context), reason)
    if context.cancelled():
        return
    await context.abort(
        status,
        reason,
        (("callscope-error", error_code(error)), ("callscope-retriable", "true" if error.retriable else "false")),
    )
