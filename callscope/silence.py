"""Tells a Kafka client that brings nothing because there is nothing from one that has lost its way.

After a broker was away, librdkafka now and then goes on without a connection to it, for good: nothing is fetched, and
no error is told. Such a client cannot be asked either, so the question goes to Kafka through a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaException

from callscope import kafka

LOOK_S: Final = 2.5
"""When nothing came for so long, it is asked whether there is something;"""
STUCK_LOOKS: Final = 2
"""and when there was at so many looks, one after the other, the client is taken for stuck."""
_ANSWER_S: Final = 2.0


class Silence:
    """How long a client has brought nothing, and whether it should have.

    Args:
        options: librdkafka's, where the cluster is and how to be let in.
        now_s: monotonic time.
    """

    def __init__(self, options: Mapping[str, Any], now_s: float) -> None:
        self._options = options
        self._since_s = now_s
        self._looks = 0

    def broken(self, now_s: float) -> None:
        """Something came, or a new client begins."""
        self._since_s, self._looks = now_s, 0

    def is_too_long(self, now_s: float, reached: Mapping[tuple[str, int], int]) -> bool:
        """Whether the client is stuck; asks Kafka now and then, and waits for the answer.

        Args:
            now_s: monotonic time.
            reached: (topic, partition) → the offset after the last record that was read.
        """
        if now_s - self._since_s < LOOK_S:
            return False
        self._since_s = now_s
        self._looks = self._looks + 1 if self._misses(reached) else 0
        return self._looks >= STUCK_LOOKS

    def _misses(self, reached: Mapping[tuple[str, int], int]) -> bool:
        try:
            return any(kafka.unread(self._options, reached, _ANSWER_S).values())
        except KafkaException:  # Kafka is away, then nobody is stuck
            return False
