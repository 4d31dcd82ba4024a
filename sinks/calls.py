"""Which calls are running and what is known of them, told by call events and by results that came without any."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from sinks.messages import Message
from sinks.subscription import Subscription

SILENT_NS: Final = 60_000_000_000
"""A call of which nothing was heard for so long is not listed as running: its end was never reported."""
MAX_CALLS: Final = 10_000
"""Calls remembered, running ones and those that ended; the ones heard least recently go first."""


@dataclass(slots=True)
class _Leg:
    source: str | None = None
    encoding: str | None = None
    rate_hz: int | None = None
    started_ns: int = 0
    ended: bool = False


@dataclass(slots=True)
class _Call:
    started_ns: int = 0
    heard_ns: int = 0
    ended: bool = False
    source: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    legs: dict[str, _Leg] = field(default_factory=dict)


class Calls:
    """The state of every call, kept from messages; all times come out of these."""

    def __init__(self) -> None:
        """Starts knowing none."""
        self._calls: OrderedDict[tuple[str, str], _Call] = OrderedDict()
        self._caught_up_ns = 0

    def heard(self, message: Message) -> None:
        """Learns from a message."""
        call = self._calls.get(message.call)
        if message.type == "call":
            if call is None or (call.ended and message.kind in ("call_started", "stream_started")):
                call = self._calls[message.call] = _Call(started_ns=message.arrived_ns)
            _apply(call, message)
        elif call is None:
            call = self._calls[message.call] = _Call(legs={message.leg: _Leg()})
        elif not call.ended and message.leg not in call.legs:
            call.legs[message.leg] = _Leg()
        if message.arrived_ns > call.heard_ns:
            call.heard_ns = message.arrived_ns
        self._calls.move_to_end(message.call)
        if len(self._calls) > MAX_CALLS:
            self._calls.popitem(last=False)

    def caught_up(self, now_ns: int) -> None:
        """Says that what came so far was history.

        For the next `SILENT_NS` a call that has not ended counts as running though nothing was heard of it lately:
        nobody listened.
        """
        self._caught_up_ns = now_ns

    def running(self, now_ns: int, subscription: Subscription) -> list[dict[str, Any]]:
        """The running calls a subscription follows, as JSON, in the order they started."""
        calls = sorted(self._calls.items(), key=lambda item: (item[1].started_ns, item[0]))
        return [
            {
                "call_id": call_id,
                "started_ns": call.started_ns or None,
                "heard_ns": call.heard_ns if now_ns - call.heard_ns < SILENT_NS else None,
                "source": call.source,
                "metadata": call.metadata,
                "legs": [
                    {
                        "leg": name,
                        "stream": f"{call_id}/{name}",
                        "started_ns": leg.started_ns or None,
                        "encoding": leg.encoding,
                        "rate_hz": leg.rate_hz,
                        "ended": leg.ended,
                    }
                    for name, leg in call.legs.items()
                    if subscription.wants_stream(call_id, name)
                ],
            }
            for (tenant, call_id), call in calls
            if tenant == subscription.tenant and self._runs(call, now_ns) and subscription.wants_stream(call_id, "")
        ]

    def count(self, now_ns: int) -> int:
        """How many run."""
        return sum(self._runs(call, now_ns) for call in self._calls.values())

    def _runs(self, call: _Call, now_ns: int) -> bool:
        since_ns = max(call.heard_ns, self._caught_up_ns)
        return not call.ended and now_ns - since_ns < SILENT_NS


def _apply(call: _Call, message: Message) -> None:
    fields = message.fields
    call.metadata.update(fields["metadata"])
    call.source = fields["source"] or call.source
    if message.leg:
        leg = call.legs.setdefault(message.leg, _Leg())
        leg.encoding = fields["encoding"] or leg.encoding
        leg.rate_hz = fields["rate_hz"] or leg.rate_hz
        if message.kind == "stream_started":
            leg.started_ns, leg.ended = message.arrived_ns, False
        elif message.kind == "stream_ended":
            leg.ended = True
    if message.kind == "call_started":
        call.started_ns = message.arrived_ns
    elif message.kind == "call_ended":
        call.ended = True
