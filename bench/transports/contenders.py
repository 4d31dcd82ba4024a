"""Who takes part: how each is started, in how many processes, how it can fetch, and what it lacks on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pooch

from bench.transports.spec import COMMIT_S, FETCHING, LINGER_MS, Stages
from callscope.broker.jars import CACHE_DIR, MAVEN_CENTRAL, fetch_jars
from callscope.broker.java import find_java
from callscope.config import load

HERE: Final = Path(__file__).parent
_STREAMS = "org/apache/kafka/kafka-streams/4.1.1/kafka-streams-4.1.1.jar"
_COMPILER = "org/eclipse/jdt/ecj/3.46.100/ecj-3.46.100.jar"
_JARS: Final = {
    _STREAMS: "sha256:e554318dbc2b07461f714be32bb324744ba993eb7a49f938792beff577d7044b",  # Apache-2.0
    _COMPILER: "sha256:74c93172475fee0cd4e6eefb44233516dd40525642da35d009146d97ea598229",  # EPL-2.0
}
"""What Kafka Streams needs beyond the broker's jars: itself, and a compiler, which the Java runtime does not have. It
does without its RocksDB (71 MB), since the stages keep no state."""


class Unavailable(Exception):
    """A contender cannot take part here; the message says why."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to build the stages.

    Attributes:
        name: on the command line and in the tables.
        title: what it is.
        command: from stages to a command line that runs them until SIGTERM.
        processes: 2 for one a stage, 1 for both in one.
        fetching: the ways of fetching it can be set to.
        environment: variables its processes need beside this process' own.
    """

    name: str
    title: str
    command: Callable[[Stages], Sequence[str]]
    processes: int
    fetching: tuple[str, ...] = tuple(FETCHING)
    environment: Mapping[str, str] = field(default_factory=dict)


def _json(stages: Stages) -> str:
    return json.dumps(asdict(stages))


def _worker(name: str) -> Callable[[Stages], Sequence[str]]:
    return lambda stages: [sys.executable, "-m", "bench.transports.workers", name, _json(stages)]


@cache
def _quix_python() -> str:
    """The interpreter of the environment that `quix.py.lock` describes; made at first use."""
    uv, script = Path(sys.executable).parent / "uv", HERE / "quix.py"
    if not uv.exists():
        raise Unavailable(f"{uv} is missing, which makes its environment: run `make setup`")
    made = subprocess.run([uv, "sync", "--quiet", "--locked", "--script", script], capture_output=True, check=False)
    if made.returncode:
        raise Unavailable(f"its environment could not be made: {made.stderr.decode().strip()}")
    found = subprocess.run([uv, "python", "find", "--script", script], capture_output=True, check=True)
    return found.stdout.decode().strip()


_QUIX_ENVIRONMENT: Final = {
    "PYTHONPATH": str(HERE.parent.parent),
    "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of a library it brings
}


def _quix(stages: Stages) -> Sequence[str]:
    return [_quix_python(), str(HERE / "quix.py"), _json(stages)]


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """For the compiled class and what Kafka Streams keeps; removed at the end."""
    return tempfile.TemporaryDirectory(prefix="callscope-bench-")


@cache
def _streams_class_path() -> str:
    """The class path of the forwarding stages: fetches what is missing and compiles them."""
    mirror = load().broker.mirror
    store = pooch.create(CACHE_DIR, f"{(mirror or MAVEN_CENTRAL).rstrip('/')}/", registry=_JARS)
    try:
        streams, compiler = (store.fetch(path) for path in (_STREAMS, _COMPILER))
    except (OSError, ValueError) as error:
        raise Unavailable(f"its jars could not be fetched: {error}") from error
    classes = _scratch().name
    path = ":".join([classes, streams, *map(str, fetch_jars(mirror))])
    options = ["-source", "17", "-target", "17", "-cp", path, "-d", classes]
    subprocess.run([find_java(), "-jar", compiler, *options, HERE / "ForwardingStages.java"], check=True)
    return path


def _kafka_streams(stages: Stages) -> Sequence[str]:
    fetching = FETCHING[stages.fetching]
    options: dict[str, Any] = {
        "application.id": stages.group,
        "bootstrap.servers": stages.servers,
        "commit.interval.ms": int(COMMIT_S * 1_000),
        "state.dir": _scratch().name,
        "consumer.auto.offset.reset": "earliest",
        "consumer.fetch.max.wait.ms": fetching["fetch.wait.max.ms"],
        "consumer.fetch.min.bytes": fetching["fetch.min.bytes"],
        "producer.linger.ms": LINGER_MS,
    }
    given = [f"-Dstreams.{name}={value}" for name, value in options.items()]
    quiet = "-Dlog4j2.level=ERROR"
    topics = [topic for hop in stages.hops for topic in hop]
    return [str(find_java()), "-Xmx512m", quiet, *given, "-cp", _streams_class_path(), "ForwardingStages", *topics]


CONTENDERS: Final = (
    Contender("plain-faust", "Faust, `await topic.send`", _worker("plain-faust"), 2, ("unpaced",)),
    Contender("callscope", "Callscope: Faust on record batches", _worker("callscope"), 2),
    Contender("callscope-one", "The same, both stages in one process", _worker("callscope"), 1),
    Contender("confluent", "confluent-kafka loops", _worker("confluent"), 2),
    Contender("quixstreams", "quixstreams", _quix, 2, environment=_QUIX_ENVIRONMENT),
    Contender("kafka-streams", "Kafka Streams on the JVM", _kafka_streams, 1),
)
"""In the order of the tables. Faust's own transport has no setting for it: its fetches are answered at once."""
