"""Kafka clients as this project sets them up: producers, consumers, topics; one set of settings for every cluster."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from callscope import clock
from callscope.config import Settings
from callscope.errors import ConfigError, KafkaUnreachable
from callscope.topics import ALL_TOPICS, TOPICS, Topic

log = logging.getLogger("callscope.kafka")

librdkafka_log = logging.getLogger("callscope.librdkafka")
"""Where librdkafka's own remarks go. It repeats "connection refused" for every attempt; what matters is raised or
logged by us, so `logs.configure_logging` shows them only when asked for everything."""

_COMPACTED: Final = {
    "cleanup.policy": "compact,delete",
    "segment.bytes": str(1 << 20),  # only whole segments are compacted, and the newest is read with the rest
    "min.cleanable.dirty.ratio": "0.3",
}
"""A topic that is read from its beginning now and then."""

_ANY_TIME: Final = str(2**63 - 1)
"""By itself Kafka refuses, for good, what is stamped more than an hour ahead of its own clock. A machine whose clock is
wrong shall seem early to others, and not lose a call."""

_NOT_YET: Final = {
    "NOT_LEADER_FOR_PARTITION",
    "LEADER_NOT_AVAILABLE",
    "UNKNOWN_TOPIC_OR_PART",
    "UNKNOWN_LEADER_EPOCH",
    "FENCED_LEADER_EPOCH",
    "_NOENT",
}


def client_options(settings: Settings) -> dict[str, Any]:
    """Options every librdkafka client shares: where the cluster is and how to be let in.

    Raises:
        ConfigError: no bootstrap servers are set.
    """
    if not settings.kafka:
        raise ConfigError(
            "No Kafka is configured. Set CALLSCOPE_KAFKA=host:port, or run `callscope up`, which brings its own."
        )
    options: dict[str, Any] = {
        "bootstrap.servers": settings.kafka,
        "reconnect.backoff.max.ms": 1_000,  # a broker that is back is needed at once, not 10 s later
        "log_level": 3,
        "logger": librdkafka_log,
    }
    security = settings.kafka_security
    if security.protocol != "PLAINTEXT":
        options["security.protocol"] = security.protocol
    if security.protocol.startswith("SASL"):
        options["sasl.mechanism"] = security.mechanism
        options["sasl.username"] = security.username
        options["sasl.password"] = security.password.get_secret_value()
    if security.protocol.endswith("SSL"):
        if security.ca_file:
            options["ssl.ca.location"] = str(security.ca_file)
        if security.cert_file:
            options["ssl.certificate.location"] = str(security.cert_file)
        if security.key_file:
            options["ssl.key.location"] = str(security.key_file)
        if security.key_password.get_secret_value():
            options["ssl.key.password"] = security.key_password.get_secret_value()
    return {**options, **settings.kafka_options}


def producer(settings: Settings, **extra: Any) -> Producer:
    """An idempotent producer that waits for all in-sync replicas and gathers records for 2 ms."""
    return Producer(
        {
            "enable.idempotence": True,
            "linger.ms": 2,
            "delivery.timeout.ms": 120_000,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 256 * 1024,
            "compression.type": "none",
            **client_options(settings),
            **extra,
        }
    )


def consumer(settings: Settings, **extra: Any) -> Consumer:
    """A consumer that commits nothing by itself and is answered at once when there is something to read."""
    return Consumer(
        {
            **client_options(settings),
            "group.id": "callscope-unused",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
            "auto.offset.reset": "earliest",
            **extra,
        }
    )


def ensure_topics(settings: Settings, topics: tuple[Topic, ...] = ALL_TOPICS, timeout_s: float = 15.0) -> None:
    """Create what is missing, with the retention of `callscope/topics.py`; check what exists.

    Raises:
        KafkaUnreachable: no broker answered in time.
        ConfigError: a topic exists with another number of partitions than configured.
    """
    admin = AdminClient(client_options(settings))
    try:
        existing = admin.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise _unreachable(settings, timeout_s, error) from error
    wanted = settings.topics.partitions
    for topic in topics:
        found = existing.get(topic.name)
        if found is not None and len(found.partitions) != wanted:
            raise ConfigError(
                f"Topic {topic.name} has {len(found.partitions)} partitions, the configuration says {wanted}. All "
                "topics need the same number, or a call's records do not meet: set CALLSCOPE_TOPICS__PARTITIONS to "
                "what exists, or delete the topics."
            )
    missing = [topic for topic in topics if topic.name not in existing]
    retention_hours = settings.broker.retention_hours
    new = [
        NewTopic(
            topic.name,
            num_partitions=wanted,
            replication_factor=settings.topics.replication,
            config={
                "message.timestamp.after.max.ms": _ANY_TIME,
                "message.timestamp.type": "LogAppendTime" if topic.stamped_by_broker else "CreateTime",
                "retention.ms": str(retention_hours * 3_600_000 if retention_hours else topic.retention_ms),
                **(_COMPACTED if topic.compacted else {"cleanup.policy": "delete"}),
            },
        )
        for topic in missing
    ]
    for name, future in (admin.create_topics(new, operation_timeout=timeout_s) if new else {}).items():
        try:
            future.result(timeout=timeout_s)
            log.info("topic created: %s (%d partitions)", name, wanted)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another worker was quicker
                raise ConfigError(f"Topic {name} could not be created: {error.args[0].str()}") from error
    deadline = clock.monotonic() + timeout_s
    while new and not _led(admin, [TopicPartition(topic.name, n) for topic in missing for n in range(wanted)]):
        if clock.monotonic() > deadline:
            raise KafkaUnreachable(
                f"The cluster at {settings.kafka} created the topics, but they have no leader after {timeout_s:.0f} s. "
                "Are enough of its brokers up?"
            )
        time.sleep(0.05)
        admin.list_topics(timeout=timeout_s)  # or it goes on saying what it knew of them when they were new


def _led(admin: AdminClient, partitions: list[TopicPartition]) -> bool:
    """Whether every partition of a new topic has a leader that knows it; a moment after creation not yet."""
    asked = admin.list_offsets({partition: OffsetSpec.latest() for partition in partitions})
    for future in asked.values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].name() not in _NOT_YET:
                raise
            return False
    return True


def cluster_id(settings: Settings, timeout_s: float = 15.0) -> str:
    """The cluster's own name for itself, given when it was formatted.

    Raises:
        KafkaUnreachable: no broker answered in time.
    """
    try:
        metadata = AdminClient(client_options(settings)).list_topics(timeout=timeout_s)
    except KafkaException as error:
        raise _unreachable(settings, timeout_s, error) from error
    return re.sub(r"[^A-Za-z0-9_-]", "_", str(metadata.cluster_id))


def records_held(
    settings: Settings, topics: tuple[Topic, ...] = TOPICS, timeout_s: float = 10.0
) -> dict[str, tuple[int, int]]:
    """How much the topics hold now.

    Returns:
        Topic name → (partitions, records), for those that exist.

    Raises:
        KafkaUnreachable: no broker answered in time.
    """
    admin = AdminClient(client_options(settings))
    try:
        existing = admin.list_topics(timeout=timeout_s).topics
        held = {}
        for topic in topics:
            if topic.name in existing:
                partitions = [TopicPartition(topic.name, number) for number in existing[topic.name].partitions]
                first = _offsets(admin, partitions, OffsetSpec.earliest(), timeout_s)
                end = _offsets(admin, partitions, OffsetSpec.latest(), timeout_s)
                held[topic.name] = (len(partitions), end - first)
        return held
    except KafkaException as error:
        raise _unreachable(settings, timeout_s, error) from error


def unread(
    options: Mapping[str, Any], reached: Mapping[tuple[str, int], int], timeout_s: float
) -> dict[tuple[str, int], int]:
    """How many records lie behind where a reader is, asked by a client made for the question.

    Args:
        options: of `client_options`.
        reached: (topic, partition) → the offset after the last record that was read.
        timeout_s: for each of two requests.

    Raises:
        KafkaException: no answer, or no such partition.
    """
    if not reached:
        return {}
    admin = AdminClient(dict(options))

    def ask(which: OffsetSpec) -> dict[tuple[str, int], int]:
        found = admin.list_offsets({TopicPartition(*where): which for where in reached}, request_timeout=timeout_s)
        return {(part.topic, part.partition): future.result().offset for part, future in found.items()}

    first, end = ask(OffsetSpec.earliest()), ask(OffsetSpec.latest())
    return {where: max(0, end[where] - max(first[where], at)) for where, at in reached.items()}


def _offsets(admin: AdminClient, partitions: list[TopicPartition], which: OffsetSpec, timeout_s: float) -> int:
    found = admin.list_offsets({partition: which for partition in partitions}, request_timeout=timeout_s)
    return sum(future.result().offset for future in found.values())


def _unreachable(settings: Settings, timeout_s: float, error: KafkaException) -> KafkaUnreachable:
    return KafkaUnreachable(
        f"No Kafka broker answered at {settings.kafka} within {timeout_s:.0f} s ({error.args[0].str()}). Is it "
        "running, and is the address right? `callscope doctor` checks both."
    )
