"""The embedded broker's life: start on free ports, wait until it answers, stop, and say why when it does not."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from callscope import lifetime, telemetry
from callscope.broker import guard
from callscope.broker.datadir import NEEDED_BYTES, NEEDED_BYTES_EPHEMERAL, DataDir, data_in_use, disk_full
from callscope.broker.jars import fetch_jars, listed
from callscope.broker.java import find_java, java_missing, jvm_options
from callscope.broker.ports import HOST, choose_port, free_ports, port_taken
from callscope.broker.properties import LOG4J2_PROPERTIES, server_properties
from callscope.clock import monotonic
from callscope.config import Broker, child_environment
from callscope.errors import BrokerDied, BrokerError, PortTaken

_START_TIMEOUT_S: Final = 60.0
_TAIL_LINES: Final = 15
_PORT_ATTEMPTS: Final = 3


class EmbeddedBroker:
    """A single-node Apache Kafka in a child process; a context manager, or `start` and `stop`.

    It ends with this process, also when this process is killed (see `callscope/lifetime.py`).

    Args:
        settings: where its data are, its port, its heap, the mirror for its jars.
        ephemeral: a data directory of its own that is removed at the end, and a free port unless one is named.
    """

    def __init__(self, settings: Broker, ephemeral: bool = False) -> None:
        self._settings = settings
        self._ephemeral = ephemeral
        self._dir: DataDir | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._java: psutil.Process | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """Where clients connect, `127.0.0.1:<port>`."""
        return f"{HOST}:{self._port}"

    @property
    def log_path(self) -> Path:
        """The broker's log; rotated beside it."""
        assert self._dir, "started"
        return self._dir.log

    @property
    def pid(self) -> int:
        """Java's process id."""
        assert self._java, "started"
        return self._java.pid

    def start(self) -> None:
        """Fetch what is missing, format a new data directory, start Kafka, wait until it answers.

        Raises:
            BrokerError: one of its kinds, each saying what to do. Nothing is left running then.
        """
        if self._guard:
            return
        started = monotonic()
        try:
            self._start()
        except BaseException:  # also at Ctrl-C
            self.stop()
            raise
        telemetry.broker_started(self.bootstrap, self.pid, monotonic() - started)

    def stop(self) -> None:
        """End it: gracefully, and by force after 10 s. Does nothing where nothing runs."""
        self._end_processes()
        if self._ephemeral and self._dir and self._dir.root.exists():  # the guard leaves it where the broker died
            shutil.rmtree(self._dir.root)

    def check(self) -> None:
        """For a supervisor to call now and then.

        Raises:
            BrokerError: it has ended by itself: `BrokerDied`, or what it died of.
        """
        if self._guard and self._guard.poll() is not None:
            raise self._why_it_died()

    def _end_processes(self) -> None:
        if self._guard:
            assert self._guard.stdin
            self._guard.stdin.close()  # what the guard waits for
            try:
                self._guard.wait(lifetime.GRACE_S + 2)
            except subprocess.TimeoutExpired:
                lifetime.stop(self._guard, grace_s=1.0)
            self._guard = None
        if self._java:
            if self._java.is_running():  # the guard was killed
                self._java.kill()
                self._java.wait()
            telemetry.broker_stopped(self.bootstrap)
            self._java = None

    def _start(self) -> None:
        java = find_java()
        jars = fetch_jars(self._settings.mirror)
        version = listed().kafka_version
        root = Path(tempfile.mkdtemp(prefix="callscope-kafka-")) if self._ephemeral else self._settings.data_dir
        self._dir = directory = DataDir(root.absolute())
        try:
            directory.create()
            lock = directory.lock(lifetime.GRACE_S + 2)
        except OSError as error:
            raise BrokerError(f"Kafka's data directory {root} cannot be used: {error}. Make it writable.") from error
        try:
            directory.check_room(NEEDED_BYTES_EPHEMERAL if self._ephemeral else NEEDED_BYTES)
            new = directory.is_new(version)
            (directory.root / "log4j2.properties").write_text(LOG4J2_PROPERTIES)
            command = [str(java), *self.jvm_options(), "-cp", ":".join(str(jar) for jar in jars)]
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                self._port = choose_port(self._settings.port, usual=not self._ephemeral and attempt == 1)
                directory.note_owner(lock, self._port)
                if new:
                    self._format(command, version)
                    new = False
                self._write_properties(directory.data)
                try:
                    self._launch([*command, "kafka.Kafka", "server.properties"], lock)
                    self._wait_until_it_answers()
                    return
                except PortTaken:  # someone was quicker between our look and Java's
                    if self._settings.port is not None or attempt == _PORT_ATTEMPTS:
                        raise
                    self._end_processes()
        finally:
            os.close(lock)  # the guard and Java hold copies

    def jvm_options(self) -> tuple[str, ...]:
        """What Java is started with."""
        optimize = self._settings.optimize
        if optimize is None:
            optimize = not self._ephemeral
        return (*jvm_options(self._settings.heap, optimize=optimize), "-Dlog4j2.configurationFile=log4j2.properties")

    def _write_properties(self, data: Path) -> None:
        assert self._dir
        text = server_properties(self._port, free_ports(1)[0], data.name, self._settings.retention_hours)
        (self._dir.root / "server.properties").write_text(text)

    def _format(self, command: list[str], version: str) -> None:
        """Format a folder aside, and put it in place when it is complete."""
        directory = self._dir
        assert directory
        directory.keep_previous_log()
        if directory.unfinished.exists():
            shutil.rmtree(directory.unfinished)
        self._write_properties(directory.unfinished)
        arguments = ["format", "--config=server.properties", f"--cluster-id={_cluster_id()}"]
        with directory.console.open("wb") as console:
            try:
                formatted = subprocess.run(
                    [*command, "kafka.tools.StorageTool", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    env=_environment(),
                    cwd=directory.root,
                    start_new_session=True,  # Ctrl-C is for us alone
                    timeout=_START_TIMEOUT_S,
                    check=False,
                )
            except OSError as error:
                raise java_missing(str(error)) from error
        if formatted.returncode:
            raise self._why_it_died()
        directory.finish_format(version)

    def _launch(self, command: list[str], lock: int) -> None:
        assert self._dir
        self._dir.keep_previous_log()
        folder = str(self._dir.root) if self._ephemeral else ""
        with self._dir.console.open("ab") as console:
            self._guard = lifetime.spawn(
                [sys.executable, "-I", "-S", guard.__file__, str(lifetime.GRACE_S), folder, *command],
                env=_environment(),
                cwd=self._dir.root,
                stdout=subprocess.PIPE,
                stderr=console,
                pass_fds=[lock],
            )
        assert self._guard.stdout
        with self._guard.stdout as told:
            answer = told.readline().decode().strip()
        if not answer.isdigit():
            raise java_missing(answer)
        try:
            self._java = psutil.Process(int(answer))
        except psutil.NoSuchProcess as error:
            self._guard.wait()
            raise self._why_it_died() from error

    def _wait_until_it_answers(self) -> None:
        assert self._guard
        deadline = monotonic() + _START_TIMEOUT_S
        admin: AdminClient | None = None
        while monotonic() < deadline:
            if self._guard.poll() is not None:
                raise self._why_it_died()
            if admin is None and _accepts(self._port):
                admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.ms": 20})
            if admin is not None:
                try:
                    if admin.list_topics(timeout=1.0).brokers:
                        self.check()  # that it was ours who answered
                        _prepare_groups(admin)
                        return
                except KafkaException:
                    continue  # it listens, but does not serve yet
            time.sleep(0.02)
        raise BrokerDied(
            f"The embedded Kafka did not answer at {self.bootstrap} within {_START_TIMEOUT_S:.0f} s. {self._log_tail()}"
        )

    def _why_it_died(self) -> BrokerError:
        assert self._dir
        text = self._dir.log_text()
        if "No space left on device" in text:
            return disk_full(self._dir.root, NEEDED_BYTES)
        if "Address already in use" in text:
            return port_taken(self._port)
        if "Failed to acquire lock on file" in text:
            return data_in_use(self._dir.root, "a Kafka that an earlier Callscope left behind")
        return BrokerDied(f"The embedded Kafka ended by itself. {self._log_tail()}")

    def _log_tail(self) -> str:
        assert self._dir
        lines = self._dir.log_text().splitlines()[-_TAIL_LINES:]
        return "\n".join([f"The end of its log ({self._dir.log}):", *(f"  {line}" for line in lines)])


def _environment() -> dict[str, str]:
    """Ours, in a locale in which Java can name every file: under LC_ALL=C it fails on a path beyond ASCII."""
    return {**child_environment(), "LC_ALL": "C.UTF-8"}


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((HOST, port)) == 0


def _prepare_groups(admin: AdminClient) -> None:
    """Ask for a group until the broker can tell: in a new directory it makes its topic of offsets when first asked.

    A consumer that comes before that topic is ready is turned away and waits 3 s (librdkafka) before it asks again.
    """
    for _ in range(20):
        try:
            admin.describe_consumer_groups(["callscope"])["callscope"].result(_START_TIMEOUT_S)
        except KafkaException:  # not ready yet; a consumer would try again as well, only later
            time.sleep(0.05)
        else:
            return


def _cluster_id() -> str:
    """A random one, in the form of Kafka's Uuid: 16 bytes in unpadded URL-safe base64. May begin with a dash."""
    return base64.urlsafe_b64encode(uuid4().bytes).rstrip(b"=").decode()
