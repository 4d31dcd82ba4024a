"""Reads what workers say of their lag from `worker.status`, and lets admission decide by it, every second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from callscope.clock import monotonic
from callscope.config import Settings
from callscope.following import Follower, KafkaRecord
from callscope.topics import WORKER_STATUS
from ingest import telemetry
from ingest.admission import Admission
from schemas.v1.status_pb2 import WorkerStatus

LOOK_S: Final = 0.5
FETCH_WAIT_MS: Final = 250
"""A report may come so late: nothing hurries, and a quiet topic costs Kafka four requests a second."""


class WorkerReports:
    """Keeps an `Admission` up to date.

    Args:
        settings: where Kafka is.
        admission: what is told.
    """

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._admission = admission
        self._follower = Follower(
            settings, [WORKER_STATUS.name], self._take, name="callscope-ingest-workers", fetch_wait_ms=FETCH_WAIT_MS
        )

    async def run(self) -> None:
        """Runs until cancelled. Where the reports cannot be read any more, that is logged, and everything is taken."""
        reading = asyncio.create_task(self._follower.run())
        reading.add_done_callback(_tell)
        try:
            while True:
                if self._admission.look(now := monotonic()):
                    telemetry.admission(self._admission.admits, self._admission.lag_ms(now))
                await asyncio.sleep(LOOK_S)
        finally:
            self._follower.stop()
            await asyncio.gather(reading, return_exceptions=True)

    def _take(self, records: Sequence[KafkaRecord]) -> None:
        for record in records:
            try:
                status = WorkerStatus.FromString(record.value)
            except DecodeError as error:
                telemetry.result_unreadable(record.topic, record.partition, record.offset, str(error))
                continue
            if status.stopped:
                self._admission.left(status.worker)
            else:
                self._admission.heard(status.worker, status.lag_ms, monotonic())


def _tell(reading: asyncio.Task[None]) -> None:
    if not reading.cancelled() and (error := reading.exception()) is not None:
        telemetry.workers_unheard(error)
