"""What the workers leave out under load, kept from their statuses; subscribers are told of every change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError

from schemas.v1.status_pb2 import WorkerStatus
from sinks.messages import Message, Undecodable

SILENT_NS: Final = 10_000_000_000
"""A worker that says nothing for so long is gone, and with it what it left out. It should speak every second."""


class Workers:
    """The workers that are heard of; all times come out of their statuses."""

    def __init__(self) -> None:
        """Starts knowing none."""
        self._shedding: dict[str, WorkerStatus] = {}

    def heard(self, value: bytes) -> list[Message]:
        """Learns from a record of `worker.status`.

        Returns:
            What subscribers are to be told: mostly nothing.

        Raises:
            Undecodable: these bytes cannot be such a record.
        """
        try:
            status = WorkerStatus.FromString(value)
        except DecodeError as error:
            raise Undecodable(f"not a callscope.v1.WorkerStatus: {error}") from error
        told = []
        for gone in [w for w, s in self._shedding.items() if status.time_ns - s.time_ns > SILENT_NS]:
            del self._shedding[gone]
            told.append(_message(gone, (), status.time_ns, status.time_ns))
        before = self._shedding.pop(status.worker, None)
        shed = () if status.stopped else tuple(status.shed)
        if shed:
            self._shedding[status.worker] = status
        if shed != (tuple(before.shed) if before else ()):
            since_ns = status.time_ns if status.stopped else status.since_ns
            told.append(_message(status.worker, shed, since_ns, status.time_ns))
        return told

    def shedding(self) -> list[Mapping[str, Any]]:
        """What is left out now, as JSON, for those who come later."""
        return [_fields(worker, tuple(s.shed), s.since_ns) for worker, s in sorted(self._shedding.items())]


def _fields(worker: str, shed: tuple[str, ...], since_ns: int) -> dict[str, Any]:
    return {"worker": worker, "shed": list(shed), "since_ns": since_ns}


def _message(worker: str, shed: tuple[str, ...], since_ns: int, time_ns: int) -> Message:
    kind = "shedding" if shed else "normal"
    return Message(
        type="system",
        kind=kind,
        id=f"{worker}|system.{kind}|{'+'.join(shed)}|{since_ns}",
        call_id="",
        leg="",
        start=0,
        duration=0,
        is_final=True,
        arrived_ns=time_ns,
        fields=_fields(worker, shed, since_ns),
        stations={},
    )
