"""What recordings are made of, whatever their container."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A packet of a recording.

    Attributes:
        data: an Opus packet, or its identification header (RFC 7845 section 5.1).
        at_s: its time in the recording, seconds; None where the container gives none.
        is_header: it is the header.
    """

    data: bytes
    at_s: float | None = None
    is_header: bool = False
