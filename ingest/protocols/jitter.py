"""A jitter buffer for analysis: RTP packets in the order of their timestamps, with what never came as holes.

There is no playout clock to keep: a packet that follows the last one goes out at once, and nothing is delayed on a
clean network. Only where something is missing do the packets behind the hole wait, each of them for `delay_s` at most;
what has not come by then is lost, and its hole is told of. Time is what the caller passes in.

Which kind of hole it is, sequence numbers say (RFC 3550 section 5.1: they count packets, timestamps count samples)::

    timestamp follows                                    no hole
    timestamp jumps, sequence number follows, a bit      the sender sent nothing because it heard nothing: Quiet
    timestamp jumps, sequence number follows, by more    the sender paused: Hole "paused"
    timestamp jumps, sequence number jumps               packets were lost: Hole "lost"
    timestamp goes back, sequence number does not,
    or timestamp jumps far beyond what time has passed   the sender began anew: Hole "paused", as long as the clock says
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

MAX_HELD: Final = 128
"""Packets that may wait behind a hole; one more, and the hole is taken for lost."""
QUIET_S: Final = 1.0
"""The longest silence of discontinuous transmission: Opus sends something every 0.4 s (RFC 6716 section 2.1.9)."""
SLACK_S: Final = 10.0
"""How far a sender's timestamps may run ahead of, or fall behind, the clock before they are taken for another clock."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What its place in time needs to know of an RTP packet.

    Attributes:
        sequence: its number, 16 bits.
        timestamp: of its first sample, 32 bits.
        samples: how many it holds, at the clock of the timestamps; at least 1.
        payload: passed through.
    """

    sequence: int
    timestamp: int
    samples: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Quiet:
    """The sender sent nothing for so many samples, because there was nothing to hear."""

    samples: int


@dataclass(frozen=True, slots=True)
class Hole:
    """So many samples never came."""

    samples: int
    reason: Literal["lost", "paused"]


Placed: TypeAlias = Packet | Quiet | Hole


@dataclass(frozen=True, slots=True)
class _Held:
    packet: Packet
    sequence: int
    timestamp: int
    arrived_s: float


class JitterBuffer:
    """One RTP source's packets, put in order.

    Args:
        rate_hz: clock of the timestamps.
        delay_s: how long a packet waits, at most, for others that should have come before it.

    Attributes:
        late: packets that came after their place had been given up, or twice.
    """

    def __init__(self, rate_hz: int, delay_s: float) -> None:
        self._rate_hz = rate_hz
        self._delay_s = delay_s
        self._held: list[_Held] = []  # by timestamp
        self._next_timestamp = 0  # unwrapped: of the next sample to go out
        self._next_sequence = 0  # unwrapped: of the next packet to go out
        self._anchor: tuple[int, float] | None = None  # a timestamp, and the time when it came
        self._last_s = 0.0
        self.late = 0

    @property
    def due_s(self) -> float | None:
        """When `release` will give up waiting for something; None where nothing waits."""
        return min(held.arrived_s for held in self._held) + self._delay_s if self._held else None

    def push(self, packet: Packet, now_s: float) -> list[Placed]:
        """Take a packet in.

        Args:
            packet: in the order of arrival.
            now_s: the time, seconds on a clock that never goes back.

        Returns:
            What is in order now, by time.
        """
        if self._anchor is None:
            self._begin(packet, now_s)
        timestamp = _unwrapped(packet.timestamp, self._next_timestamp, 32)
        sequence = _unwrapped(packet.sequence, self._next_sequence, 16)
        out: list[Placed] = []
        if not self._is_plausible(timestamp, sequence, now_s):
            out += self._begin_anew(packet, now_s)
            timestamp, sequence = self._next_timestamp, self._next_sequence
        self._last_s = now_s
        if timestamp < self._next_timestamp or any(held.sequence == sequence for held in self._held):
            self.late += 1
            return out
        self._hold(_Held(packet, sequence, timestamp, now_s))
        return out + self.release(now_s)

    def release(self, now_s: float) -> list[Placed]:
        """What need not wait, or no longer.

        Args:
            now_s: the time.
        """
        out: list[Placed] = []
        while (due_s := self.due_s) is not None:
            first = self._held[0]
            gap = first.timestamp - self._next_timestamp
            follows = gap <= 0 or first.sequence == self._next_sequence
            if not (follows or now_s >= due_s or len(self._held) > MAX_HELD):
                break
            out += self._take(first, gap)
        return out

    def flush(self) -> list[Placed]:
        """All that still waits, when no more will come."""
        out: list[Placed] = []
        while self._held:
            first = self._held[0]
            out += self._take(first, first.timestamp - self._next_timestamp)
        return out

    def _take(self, first: _Held, gap: int) -> list[Placed]:
        del self._held[0]
        if gap < 0:  # it overlaps what went out
            self.late += 1
            return []
        out: list[Placed] = []
        if gap:
            if first.sequence != self._next_sequence:
                out.append(Hole(gap, "lost"))
            elif gap <= QUIET_S * self._rate_hz:
                out.append(Quiet(gap))
            else:
                out.append(Hole(gap, "paused"))
        self._next_timestamp = first.timestamp + first.packet.samples
        self._next_sequence = first.sequence + 1
        return [*out, first.packet]

    def _hold(self, held: _Held) -> None:
        at = len(self._held)
        while at and self._held[at - 1].timestamp > held.timestamp:
            at -= 1
        self._held.insert(at, held)

    def _begin(self, packet: Packet, now_s: float) -> None:
        self._anchor = (packet.timestamp, now_s)
        self._next_timestamp, self._next_sequence = packet.timestamp, packet.sequence

    def _begin_anew(self, packet: Packet, now_s: float) -> list[Placed]:
        """What waited goes out, then a hole as long as the clock says, and the packet's clock is the new one."""
        out = self.flush()
        passed = round((now_s - self._last_s) * self._rate_hz) - packet.samples
        self._begin(packet, now_s)
        return [*out, Hole(passed, "paused")] if passed > 0 else out

    def _is_plausible(self, timestamp: int, sequence: int, now_s: float) -> bool:
        assert self._anchor is not None, "begun"
        began, began_s = self._anchor
        ahead_s = (timestamp - began) / self._rate_hz - (now_s - began_s)
        if timestamp < self._next_timestamp:  # late, unless it was sent later
            return sequence < self._next_sequence and timestamp >= self._next_timestamp - SLACK_S * self._rate_hz
        return ahead_s <= SLACK_S


def _unwrapped(value: int, near: int, bits: int) -> int:
    """The number that is `value` in its low bits, and closest to `near`."""
    half = 1 << (bits - 1)
    return near + ((value - near + half) & ((1 << bits) - 1)) - half
