"""The name of a stream, which all three programs use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamId:
    """One leg of one call."""

    call_id: str
    leg: str

    def __str__(self) -> str:
        """`<call id>/<leg>`: the Kafka key."""
        return f"{self.call_id}/{self.leg}"
