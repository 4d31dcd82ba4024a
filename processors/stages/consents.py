"""What speakers agreed to: which of a stream's media time may be analysed, and for which purposes."""

from __future__ import annotations

from collections import OrderedDict

from callscope.streams import StreamId
from processors.records import Consent


class Consents:
    """The consent events of all calls.

    Each says what holds from its media time on, until a later record says otherwise. What none speaks of is allowed.
    Asking changes nothing, and the answer depends on media time only: a replay that knows every event from the start
    withholds what the live run withheld.

    Args:
        kept_ms: a call whose newest event is so much older than the newest of all is forgotten: its records are gone.
    """

    def __init__(self, kept_ms: int) -> None:
        self._kept_ms = kept_ms
        self._said: OrderedDict[str, list[Consent]] = OrderedDict()

    def __len__(self) -> int:
        """Calls of which something is known."""
        return len(self._said)

    def note(self, consent: Consent) -> None:
        """Take in the next event of a call, in the order of its topic."""
        self._said.setdefault(consent.call_id, []).append(consent)
        self._said.move_to_end(consent.call_id)
        while next(iter(self._said.values()))[-1].written_ms < consent.written_ms - self._kept_ms:
            self._said.popitem(last=False)

    def allow(self, stream: StreamId, purpose: str, start: int, end: int) -> bool:
        """Whether all of a span may be analysed.

        Args:
            stream: whose speech it is.
            purpose: the policy of the model that asks.
            start: media time of the span's first sample.
            end: media time after its last one.

        Returns:
            False if the purpose was refused at any moment of it.
        """
        if stream.call_id not in self._said:
            return True
        told = [
            consent
            for consent in self._said[stream.call_id]
            if consent.leg in ("", stream.leg) and (not consent.purposes or purpose in consent.purposes)
        ]
        moments = [start, *(consent.at for consent in told if start < consent.at < end)]
        return all(_holds(told, moment) for moment in moments)


def _holds(told: list[Consent], moment: int) -> bool:
    return next((consent.allowed for consent in reversed(told) if consent.at <= moment), True)
