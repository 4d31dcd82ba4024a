"""How long audio may wait in the gateway for more of its stream, so that one record carries it all; pure."""

from __future__ import annotations

from typing import Final

STEPS: Final = ((10, 0), (70, 20), (160, 40))
"""Open streams up to which audio is held so many milliseconds; 0: not at all."""
LONGEST_MS: Final = 60
"""Beyond these; what three frames take to come, and the longest record."""
QUEUED_RECORDS: Final = 2_000
"""With so many records waiting for Kafka, audio is held as long as it may be."""


def hold_ms(streams: int, queued_records: int) -> int:
    """Milliseconds that audio is held.

    Every record costs the gateway, Kafka and the workers the same, whatever it holds: with few streams latency is what
    matters, with many the number of records is.

    Args:
        streams: open in this gateway.
        queued_records: given to the Kafka client and not yet delivered.
    """
    if queued_records >= QUEUED_RECORDS:
        return LONGEST_MS
    return next((held for most, held in STEPS if streams <= most), LONGEST_MS)
