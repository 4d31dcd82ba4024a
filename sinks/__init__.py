"""The way out: results from Kafka to subscribers over WebSocket, and the dashboard."""
