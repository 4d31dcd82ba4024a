"""The way in: calls arrive over a transport, leave as canonical audio frames on Kafka."""
