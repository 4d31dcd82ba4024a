"""The embedded Kafka: a real, single-node Apache Kafka as a child process, fetched once, no installation."""

from callscope.broker.broker import EmbeddedBroker

__all__ = ["EmbeddedBroker"]
