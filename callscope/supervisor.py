"""Runs the whole system on one machine: broker, gateway, workers and sink as child processes, ended in order.

A gateway, worker or sink that ends by itself is started again; the broker's end is the end of all.
"""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from callscope import clock, kafka, lifetime
from callscope.broker.broker import EmbeddedBroker
from callscope.config import Settings, child_environment, cores
from callscope.errors import CallscopeError, ConfigError
from callscope.restarts import Restarts

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
TEND_S = 0.1
"""How long the end of a process goes unnoticed."""
WEBRTC_PORT = 7072
STAGES = ("detect", "extract", "infer")

Say = Callable[[str], None]


class ChildDied(CallscopeError):
    """A part of the system ended by itself."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the running system can be reached."""

    kafka: str
    gateway: str
    webrtc: str
    results: str
    dashboard: str


class System:
    """A running system.

    Attributes:
        addresses: where it can be reached.
        children: its processes by name, without the broker.
        broker: the embedded broker, None where an existing cluster is used.

    Args:
        addresses: as above.
        broker: as above.
        start: starts a process again, by its name.
        say: told of what ended and is started again.
    """

    def __init__(
        self,
        addresses: Addresses,
        broker: EmbeddedBroker | None,
        start: Callable[[str], subprocess.Popen[bytes]],
        say: Say,
    ) -> None:
        self.addresses = addresses
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.broker = broker
        self._start = start
        self._say = say
        self._restarts: dict[str, Restarts] = {}
        self._due: dict[str, float] = {}
        """When those that ended are to be started again."""

    def start(self, name: str) -> None:
        """Start a process for the first time."""
        self.children[name] = self._start(name)
        self._restarts[name] = Restarts(clock.monotonic())

    def pids(self) -> dict[str, int]:
        """Process ids by name; "broker" is the Java process of an embedded one."""
        pids = {name: child.pid for name, child in self.children.items()}
        return pids if self.broker is None else {"broker": self.broker.pid, **pids}

    def check(self) -> None:
        """Look whether everything still runs.

        Raises:
            ChildDied: a process does not; it has said why on standard error.
            BrokerError: Kafka does not.
        """
        if self.broker is not None:
            self.broker.check()
        for name, child in self.children.items():
            if child.poll() is not None:
                raise ChildDied(f"The {name} process ended by itself ({_how(child)}); its message is above.")

    def tend(self) -> None:
        """Start again what has ended.

        Raises:
            ChildDied: a process ends as soon as it is started.
            BrokerError: Kafka has ended.
        """
        if self.broker is not None:
            self.broker.check()
        now_s = clock.monotonic()
        for name, child in self.children.items():
            if name in self._due:
                if now_s >= self._due[name]:
                    del self._due[name]
                    lifetime.stop(child, 0.0)  # nothing is left of it but our end of its pipe
                    self.children[name] = self._start(name)
                    self._restarts[name].started(clock.monotonic())
            elif child.poll() is not None:
                self._plan_restart(name, child, now_s)

    def _plan_restart(self, name: str, child: subprocess.Popen[bytes], now_s: float) -> None:
        restarts = self._restarts[name]
        delay_s = restarts.ended(now_s)
        if delay_s is None:
            raise ChildDied(
                f"The {name} process ended {restarts.ends} times in a row soon after it was started ({_how(child)}) "
                "and is not started again; its message is above. Everything ends: what was accepted is in Kafka."
            )
        self._say(f"The {name} process ended by itself ({_how(child)}); starting it again in {delay_s:.1f} s")
        self._due[name] = now_s + delay_s

    def wait(self) -> None:
        """Return never; start again what ends, and raise `ChildDied` when that is in vain."""
        while True:
            self.tend()
            time.sleep(TEND_S)


def _how(child: subprocess.Popen[bytes]) -> str:
    code = child.poll()
    return f"exit code {code}" if code is None or code >= 0 else f"killed by {signal.Signals(-code).name}"


@contextmanager
def running(
    settings: Settings, *, chained: bool, ephemeral: bool, free_ports: bool, say: Say, workers: int | None = None
) -> Iterator[System]:
    """Start everything, yield it when it is ready for calls, and end it in the order of the data.

    Args:
        settings: the settings in force; `settings.kafka` names an existing cluster, which is then used.
        chained: workers of their own for each stage instead of workers that do all of them.
        ephemeral: the embedded broker's data goes when it ends.
        free_ports: where a configured port is taken, use a free one instead of refusing.
        say: told of every step.
        workers: worker processes (chained: of each stage), among which the partitions are spread; None: one a core, at
            most one a partition.

    Raises:
        CallscopeError: something cannot start; everything started before has been ended again.
    """
    ingest_port = _port(settings.ingest.host, settings.ingest.port, "gateway", "CALLSCOPE_INGEST__PORT", free_ports)
    # Not asked for by name, WebRTC gets its usual port, or any; it costs next to nothing until somebody makes an offer.
    webrtc_port = _port(settings.ingest.host, settings.ingest.webrtc.port or WEBRTC_PORT, "WebRTC", "", free_ports=True)
    sink_port = _port(settings.sink.host, settings.sink.port, "dashboard", "CALLSCOPE_SINK__PORT", free_ports)
    grpc_port = settings.ingest.grpc.port
    if grpc_port is not None:
        grpc_port = _port(settings.ingest.host, grpc_port, "gRPC port", "CALLSCOPE_INGEST__GRPC__PORT", free_ports)
    with ExitStack() as stack:
        stack.enter_context(_terminate_like_interrupt())
        broker = None
        if settings.kafka is None:
            began = clock.monotonic()
            broker = stack.enter_context(EmbeddedBroker(settings.broker, ephemeral=ephemeral))
            settings = settings.model_copy(update={"kafka": broker.bootstrap})
            say(f"Kafka      {broker.bootstrap}  (own broker, started in {clock.monotonic() - began:.1f} s)")
        else:
            say(f"Kafka      {settings.kafka}  (existing cluster)")
        kafka.ensure_topics(settings)
        secure_gateway, secure = ("" if s.tls.cert_file is None else "s" for s in (settings.ingest, settings.sink))
        addresses = Addresses(
            kafka=str(settings.kafka),
            gateway=f"ws{secure_gateway}://{settings.ingest.host}:{ingest_port}/v1/stream",
            webrtc=f"http{secure_gateway}://{settings.ingest.host}:{webrtc_port}/v1/webrtc",
            results=f"ws{secure}://{settings.sink.host}:{sink_port}/v1/results",
            dashboard=f"http{secure}://{settings.sink.host}:{sink_port}/",
        )
        chosen = {
            "kafka": addresses.kafka,
            "ingest__port": str(ingest_port),
            "ingest__webrtc__port": str(webrtc_port),
            "sink__microphone__stream": settings.sink.microphone.stream or addresses.gateway,
            "sink__microphone__webrtc": settings.sink.microphone.webrtc or addresses.webrtc,
            "sink__port": str(sink_port),
            "topics__partitions": str(settings.topics.partitions),
            "log_level": settings.log_level,
        }
        if grpc_port is not None:
            chosen["ingest__grpc__port"] = str(grpc_port)
        environment = child_environment(**chosen)
        wanted = _workers(chained, workers or min(cores(), settings.topics.partitions))
        programs = {"sink": ["sinks"], **wanted, "gateway": ["ingest"]}

        def start(name: str) -> subprocess.Popen[bytes]:
            # A worker keeps its name in its group: started again, it has its partitions back without a rebalance.
            member = f"{_host()}-{name}".replace(" ", "-")
            own = {"CALLSCOPE_PROCESSORS__MEMBER": member}
            return lifetime.spawn([sys.executable, "-m", *programs[name]], env=environment | own)

        system = System(addresses, broker, start, say)
        # Ended in the reverse order: first nothing more comes in, then what came is worked off, then it is shown.
        for name in programs:
            system.start(name)
            stack.callback(lambda name: lifetime.stop(system.children[name], STOP_TIMEOUT_S), name)
        _await_all(system, settings, chained, len(wanted))
        say(f"Gateway    {addresses.gateway}")
        if grpc_port is not None:
            say(f"gRPC       {settings.ingest.host}:{grpc_port}")
        say(f"Dashboard  {addresses.dashboard}")
        yield system


def _host() -> str:
    """This machine's name, of letters that Kafka takes in a member's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:100] or "host"


def _workers(chained: bool, number: int) -> dict[str, list[str]]:
    """Name of each worker process, and the module and arguments it runs."""
    if chained:
        return {f"{stage} {n}": ["processors", stage] for stage in STAGES for n in range(1, number + 1)}
    return {f"worker {n}": ["processors"] for n in range(1, number + 1)}


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """SIGTERM, which service managers send, ends the system in the same order as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _await_all(system: System, settings: Settings, chained: bool, workers: int) -> None:
    groups = [f"{settings.processors.group}-{stage}" for stage in (STAGES if chained else ("fused",))]
    admin = AdminClient(kafka.client_options(settings))
    gateway = system.addresses.gateway.replace("ws", "http", 1).replace("/v1/stream", "/healthz")
    sink = system.addresses.dashboard + "healthz"
    _await("gateway", lambda: _healthy(gateway), system)
    _await("sink", lambda: _healthy(sink), system)
    _await("workers", lambda: sum(_readers(admin, group) for group in groups) == workers, system)


def _await(name: str, ready: Callable[[], bool], system: System) -> None:
    deadline = clock.monotonic() + START_TIMEOUT_S
    while not ready():
        system.check()
        if clock.monotonic() > deadline:
            raise ChildDied(f"The {name} did not become ready within {START_TIMEOUT_S:.0f} s.")
        time.sleep(0.05)


_OWN_CERTIFICATE = ssl.create_default_context()
"""For the children's health only: whether their certificate is good for loopback is not asked."""
_OWN_CERTIFICATE.check_hostname = False
_OWN_CERTIFICATE.verify_mode = ssl.CERT_NONE


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0, context=_OWN_CERTIFICATE) as answer:  # noqa: S310  # an address of our own making
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _readers(admin: AdminClient, group: str) -> int:
    """How many members of a group that has come to rest have partitions."""
    try:
        description = admin.describe_consumer_groups([group], request_timeout=5.0)[group].result()
    except KafkaException:
        return 0
    if description.state != ConsumerGroupState.STABLE:
        return 0
    return sum(bool(member.assignment and member.assignment.topic_partitions) for member in description.members)


def _port(host: str, port: int, what: str, setting: str, free_ports: bool) -> int:
    for candidate in (port, 0) if free_ports else (port,):
        if found := can_listen(host, candidate):
            return found
    raise ConfigError(
        f"Port {port} on {host}, which the {what} is to use, is taken; perhaps another Callscope is running. "
        f"End that, or choose another port with {setting}=..."
    )


def can_listen(host: str, port: int) -> int | None:
    """The port if a server could listen on it now, any free one for 0, None if it is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])
