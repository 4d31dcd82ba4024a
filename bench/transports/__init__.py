"""Transports side by side: two forwarding stages over Kafka, built in several ways and measured in one way."""
