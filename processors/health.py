"""How a worker is: whether it consumes what is there to be consumed; and the HTTP port for health and metrics."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faust.types import TP
from prometheus_client import make_wsgi_app

from callscope import kafka
from callscope.config import Settings
from callscope.errors import ConfigError

_KAFKA_S: Final = 3.0


class Consumption:
    """Whether a worker's agents get on wherever there is something to read.

    Kafka is asked by a client of its own, a new one each time: one that may hang is not asked how it is.

    Args:
        settings: where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._options = kafka.client_options(settings)
        self._reached: Mapping[TP, int] = {}
        self._before: Mapping[TP, int] = {}
        self._is_rebalancing = False

    def note(self, reached: Mapping[TP, int], *, is_rebalancing: bool) -> None:
        """To be called on the event loop every second.

        Args:
            reached: of each partition, the first offset that no agent has finished.
            is_rebalancing: the group is dealing out partitions, and nothing is read.
        """
        self._reached = reached
        self._is_rebalancing = is_rebalancing

    def check(self) -> Mapping[str, str]:
        """See `callscope.watchdog.Check`. While Kafka does not answer, nothing can be said against anybody."""
        reached, before = self._reached, self._before
        self._before = reached
        still = {tp: offset for tp, offset in reached.items() if before.get(tp) == offset}
        if self._is_rebalancing:
            return {}  # see `check_group`
        return {
            f"{topic}/{number}": f"{topic}/{number} stands still, with {unread} records to be read"
            for (topic, number), unread in self._unread(still).items()
            if unread
        }

    def check_group(self) -> Mapping[str, str]:
        """See `callscope.watchdog.Check`: whether the group deals out its partitions."""
        if self._is_rebalancing and self._answers():
            return {"group": "the group's partitions are not dealt out"}
        return {}

    def _answers(self) -> bool:
        try:
            AdminClient(self._options).list_topics(timeout=_KAFKA_S)
        except KafkaException:
            return False
        return True

    def _unread(self, reached: Mapping[TP, int]) -> Mapping[tuple[str, int], int]:
        try:
            return kafka.unread(self._options, reached, _KAFKA_S)
        except KafkaException:
            return {}


class _Quiet(WSGIRequestHandler):
    """Requests are no news."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


class HealthPort:
    """Serves /metrics, /livez and /readyz over HTTP, in a thread: it answers also where the event loop does not.

    Args:
        host: to listen on.
        port: likewise; 0 takes any free one.
        is_alive: what /livez says.
        is_ready: what /readyz says.

    Raises:
        ConfigError: the port cannot be opened.
    """

    def __init__(self, host: str, port: int, is_alive: Callable[[], bool], is_ready: Callable[[], bool]) -> None:
        self._answers = {"/livez": is_alive, "/readyz": is_ready}
        self._metrics = make_wsgi_app()
        try:
            self._server: WSGIServer = make_server(host, port, self._answer, handler_class=_Quiet)
        except OSError as error:
            raise ConfigError(
                f"The worker cannot serve its metrics on {host} port {port}: {error.strerror or error}. "
                "CALLSCOPE_PROCESSORS__METRICS_PORT names another port."
            ) from error
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, name="health-port", daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        answer = self._answers.get(environ["PATH_INFO"])
        if answer is None:
            found: Iterable[bytes] = self._metrics(environ, start_response)
            return found
        is_good = answer()
        status = "200 OK" if is_good else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [(json.dumps({"status": "ok" if is_good else "not now"}) + "\n").encode()]
