"""Results in words: one line a message for the terminal, and the sums at the end of a call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


def line_of(message: Mapping[str, Any]) -> str | None:
    """One line that says what a message says; None for what is too frequent to read (levels, sliding windows)."""
    tell = _TELL.get((message["type"], message.get("kind", "")))
    if message["type"] == "insight" and message["is_final"]:
        tell = _insight
    if message["type"] == "dropped":
        return f"          {message['count']} messages were left out: this terminal is too slow"
    if tell is None:
        return None
    return f"{clock_time(message['start'] + message['duration']):>9}  {message['leg'] or '':<9} {tell(message)}"


def clock_time(seconds: float) -> str:
    """12.34 → "00:12.3"."""
    tenths = round(seconds * 10)
    return f"{tenths // 600:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _speech_end(message: Mapping[str, Any]) -> str:
    return f"■ spoke {message['duration']:.1f} s"


def _utterance(message: Mapping[str, Any]) -> str:
    summary = message["summary"]
    parts = [f"  utterance {message['duration']:.1f} s"]
    if summary["f0_mean"] is not None:
        parts.append(f"pitch {27.5 * 2 ** (summary['f0_mean'] / 12):.0f} Hz")
    parts.append(f"loudness {summary['loudness_mean']:.2f}")
    if summary.get("speech_rate_hz") is not None:
        parts.append(f"{summary['speech_rate_hz']:.1f} syllables/s")
    return ", ".join(parts)


def _insight(message: Mapping[str, Any]) -> str:
    parts = []
    for name, output in message["outputs"].items():
        if output["value"] is None:
            parts.append(f"{name} unknown ({output['unknown_because']})")
        else:
            parts.append(f"{name} {output['value']:.2f}{output['unit'] and ' ' + output['unit']}")
    return f"  {message['kind']}: {', '.join(parts)}"


_TELL = {
    ("call", "call_started"): lambda message: f"● call {message['call_id']} began",
    ("call", "call_ended"): lambda message: f"○ call {message['call_id']} ended: {message['reason']}",
    ("call", "gap"): lambda message: f"  {message['duration']:.2f} s of audio are missing",
    ("activity", "speech_start"): lambda _: "▶ speaks",
    ("activity", "speech_end"): _speech_end,
    ("features", "utterance"): _utterance,
}


@dataclass(slots=True)
class Tally:
    """What a call came to, gathered message by message.

    Attributes:
        talk_s: seconds of speech by leg.
        turns: how often each leg spoke.
        latencies_ms: of every result, arrival of its audio to the push.
    """

    talk_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    turns: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, message: Mapping[str, Any]) -> None:
        """Take a message into account."""
        if message["type"] == "activity" and message["kind"] == "speech_end":
            self.talk_s[message["leg"]] += message["duration"]
            self.turns[message["leg"]] += 1
        if message["type"] in ("activity", "features", "insight"):
            self.latencies_ms.append(message["ledger"]["latency_ms"])

    def percentile_ms(self, share: float) -> float:
        """Latency that `share` per cent of the results stayed under; NaN without results."""
        return float(np.percentile(self.latencies_ms, share)) if self.latencies_ms else float("nan")

    def lines(self) -> list[str]:
        """The sums, for people."""
        talk = [f"{leg} spoke {self.talk_s[leg]:.1f} s in {self.turns[leg]} turns" for leg in sorted(self.talk_s)]
        return [*talk, self.latency_line()]

    def latency_line(self) -> str:
        """How many results there were and how quick."""
        if not self.latencies_ms:
            return "no results"
        return (
            f"{len(self.latencies_ms)} results, latency p50 {self.percentile_ms(50):.0f} ms, "
            f"p95 {self.percentile_ms(95):.0f} ms, p99 {self.percentile_ms(99):.0f} ms, "
            f"max {self.percentile_ms(100):.0f} ms (arrival of the audio to the subscriber's socket)"
        )
