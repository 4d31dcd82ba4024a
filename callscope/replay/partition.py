"""One partition on its way through a replay: whose records are wanted, which streams are open, where to go on. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from callscope.replay.plan import Leg, Part, PartitionState, Plan
from callscope.streams import StreamId, tenant_and_call_id
from processors.records import AudioFrame, Envelope


@dataclass(slots=True)
class _Open:
    """A stream that is being worked on."""

    first: int
    arrived_ns: int
    leg: Leg


class Partition:
    """Follows the records of a partition in their order.

    A stream that stopped without an end is taken for ended as live: when audio arrived so much later than its last.
    Arrival is what the records say of it, not the clock; and of this partition alone, so that neither speed nor the
    company of other partitions decides it.

    Args:
        part: what of it is replayed.
        state: how far an earlier attempt got; changed as it goes on.
        idle_s: how much later.
    """

    def __init__(self, part: Part, state: PartitionState, idle_s: float) -> None:
        self.part = part
        self.state = state
        self._idle_ns = idle_s * 1e9
        self._open: OrderedDict[StreamId, _Open] = OrderedDict()

    def idle(self, arrived_ns: int) -> list[StreamId]:
        """Open streams that are over, now that audio arrived at this time; those longest silent first."""
        found = []
        for stream, known in self._open.items():
            if arrived_ns - known.arrived_ns <= self._idle_ns:
                break
            found.append(stream)
        return found

    def skipped(self, offset: int, *, unreadable: bool = False) -> None:
        """A record is not wanted, or cannot be read."""
        if offset >= self.state.position:
            self.state.unreadable += unreadable
            self.state.position = offset + 1

    def admit(self, offset: int, envelope: Envelope) -> bool:
        """Take note of the next record; False for that of a stream which an earlier attempt has finished."""
        frame = envelope.record
        assert isinstance(frame, AudioFrame)
        done = self.state.legs.get(str(frame.stream))
        if done is not None and offset <= done.until:
            self.skipped(offset)
            return False
        known = self._open.get(frame.stream)
        if known is None:
            leg = Leg(whole=frame.seq == 0, again=done is not None)
            known = self._open[frame.stream] = _Open(offset, envelope.ledger.arrived_ns, leg)
        known.arrived_ns = envelope.ledger.arrived_ns
        self._open.move_to_end(frame.stream)
        leg = known.leg
        leg.until = offset
        leg.records += 1
        leg.samples += len(frame.pcm)
        leg.end = max(leg.end, frame.start + len(frame.pcm))
        leg.gaps += frame.gap_before > 0
        leg.gap_samples += frame.gap_before
        self.state.position = max(self.state.position, offset + 1)
        return True

    def ended(self, stream: StreamId, digest: str, *, ended: bool = True) -> None:
        """All results of a stream are out. One that had been done before is both now."""
        leg = self._open.pop(stream).leg
        leg.ended, leg.digest = ended, digest
        before = self.state.legs.get(str(stream))
        if before is not None:
            leg.records += before.records
            leg.samples += before.samples
            leg.gaps += before.gaps
            leg.gap_samples += before.gap_samples
            leg.end = max(leg.end, before.end)
            leg.whole = leg.whole and before.whole
        self.state.legs[str(stream)] = leg

    @property
    def open(self) -> list[StreamId]:
        """Streams that are being worked on."""
        return list(self._open)

    def checkpoint(self) -> PartitionState:
        """How far it is: an attempt that begins at `next`, and passes over streams that are done misses nothing."""
        self.state.next = min((known.first for known in self._open.values()), default=self.state.position)
        return self.state


def is_wanted(plan: Plan, calls: Collection[str] | None, call: str) -> bool:
    """Whether a call is replayed.

    Args:
        plan: of the run.
        calls: those of the plan, quick to look up.
        call: as the topics name it.
    """
    return (calls is None or call in calls) and (plan.tenant is None or tenant_and_call_id(call)[0] == plan.tenant)
