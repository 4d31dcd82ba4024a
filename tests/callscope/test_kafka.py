from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from callscope import clock, kafka
from callscope.config import Settings, load
from callscope.errors import ConfigError, KafkaUnreachable
from callscope.topics import TOPICS, Topic


def test_without_a_cluster_the_message_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="CALLSCOPE_KAFKA"):
        kafka.client_options(load())


def test_security_settings_reach_librdkafka() -> None:
    settings = load(
        kafka="broker:9093",
        kafka_security={
            "protocol": "SASL_SSL",
            "mechanism": "SCRAM-SHA-512",
            "username": "callscope",
            "password": "secret",
            "ca_file": "ca.pem",
        },
        kafka_options={"client.rack": "a"},
    )
    options = kafka.client_options(settings)
    assert options["security.protocol"] == "SASL_SSL"
    assert options["sasl.mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl.username"], options["sasl.password"]) == ("callscope", "secret")
    assert options["ssl.ca.location"] == "ca.pem"
    assert options["client.rack"] == "a"


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1 "):
        kafka.ensure_topics(load(kafka="127.0.0.1:1"), timeout_s=0.5)


@pytest.mark.integration
def test_topics_are_made_once_with_the_configured_partitions(kafka: Settings) -> None:
    from callscope.kafka import ensure_topics, records_held

    ensure_topics(kafka)
    ensure_topics(kafka)
    held = records_held(kafka)
    assert set(held) == {topic.name for topic in TOPICS}
    assert {partitions for partitions, _ in held.values()} == {kafka.topics.partitions}


@pytest.mark.integration
def test_a_topic_with_other_partitions_is_refused(kafka: Settings) -> None:
    from callscope.kafka import ensure_topics

    ensure_topics(kafka)
    other = kafka.model_copy(update={"topics": kafka.topics.model_copy(update={"partitions": 3})})
    with pytest.raises(ConfigError, match="has 8 partitions, the configuration says 3"):
        ensure_topics(other)


@pytest.mark.integration
@pytest.mark.parametrize("hours", [3, -3])
def test_a_record_of_a_machine_whose_clock_is_wrong_is_taken(kafka: Settings, hours: int) -> None:
    from callscope.kafka import ensure_topics, producer

    topic = Topic(f"clocks.{hours}", "stream", "none", "tests", 3_600_000)
    ensure_topics(kafka, (topic,))
    sender = producer(kafka)
    refused: list[KafkaError | None] = []
    at_ms = clock.calendar_ns() // 1_000_000 + hours * 3_600_000
    sender.produce(topic.name, b"x", partition=0, timestamp=at_ms, on_delivery=lambda error, _: refused.append(error))
    assert sender.flush(10) == 0
    assert refused == [None]
