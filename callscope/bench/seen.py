"""What a subscriber saw of a load: latencies, the ledger by stage, and whether anything is missing or came twice."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

STATIONS: Final = ("published", "detected", "extracted", "inferred", "pushed")
"""Of the ledger, in the order in which audio passes them after its arrival."""

_TOLERANCE_S: Final = 0.001
_END_S: Final = 0.15
"""The last level may end so long before the audio: less than an interval and a hop are never judged."""
_SHED_WITHIN_NS: Final = 5_000_000_000
"""A window that is not judged was shed if infer began to shed so long after it was made, at the latest."""
_HOP_S: Final = 0.1
_FIRST_WINDOW_S: Final = 0.5
_ONSET_WITHIN_S: Final = (-0.05, 0.6)
"""A start of speech belongs to a laid-out utterance if it came so long after the utterance began."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution, milliseconds; NaN where nothing was seen."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, values_ms: Sequence[float] | array[float]) -> Spread:
        """The spread of some values."""
        if not len(values_ms):
            return cls(0, *[float("nan")] * 4)
        p50, p95, p99, highest = np.percentile(np.asarray(values_ms, np.float64), (50, 95, 99, 100))
        return cls(len(values_ms), *(round(float(value), 2) for value in (p50, p95, p99, highest)))


@dataclass(frozen=True, slots=True)
class Summary:
    """What was seen.

    Attributes:
        latency: of all results, by the definition in docs/results.md.
        by_type: the same by type of result: "activity", "features", "insight".
        stages: time from each station of the ledger to the next.
        onset: from the moment an utterance began to be sent to the subscriber's having its start of speech.
        lost: results that should have come and did not: missing levels, starts without an end, speech without an
            utterance, windows out of their rhythm or without the judgement of a model that judged others, interim
            results dropped for a slow subscriber.
        lost_because: the first few of them, in words.
        duplicated: results that came twice.
        shed: windows without a judgement while infer was shed, windows and utterances of segments whose features were.
            A worker that leaves work out says so; none of it is lost.
        unpublished_s: audio that was sent and never acknowledged, all calls.
    """

    latency: Spread
    by_type: dict[str, Spread]
    stages: dict[str, Spread]
    onset: Spread
    lost: int
    lost_because: list[str]
    duplicated: int
    shed: int
    unpublished_s: float


@dataclass(slots=True)
class _Leg:
    began_ns: int
    onsets: tuple[float, ...]
    loop_s: float
    newest: dict[str, float] = field(default_factory=dict)
    """Kind of result → media time up to which it has told."""
    speaking: bool = False
    segments: set[float] = field(default_factory=set)
    """In which speech started."""
    utterances: set[float] = field(default_factory=set)
    """Segments whose utterance came: topics are read side by side, so perhaps before the start of its last speech."""
    window_of: float | None = None
    window_end: float = 0.0
    described: int = 0
    """Windows and utterances."""
    described_ns: array[int] = field(default_factory=lambda: array("q"))
    """When each window, not utterance, was made."""
    judged: dict[str, int] = field(default_factory=dict)
    """Model → windows and utterances of which it said something."""


class Seen:
    """Takes results down as they come."""

    def __init__(self) -> None:
        self.measure_from_ns: int | None = None
        """Results of audio that arrived before are checked, but their latency does not count; None: all of them."""
        self._latencies = array("d")
        self._by_type: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self._stages: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self._onsets = array("d")
        self._legs: dict[tuple[str, str], _Leg] = {}
        self._lost = 0
        self._because: list[str] = []
        self._duplicated = 0
        self._shed = 0
        self._shedding: dict[str, int] = {}
        """Worker → since when it sheds infer."""
        self._shed_spans: list[tuple[int, int]] = []
        """When infer was shed."""
        self._unpublished_s = 0.0

    def call_began(
        self,
        call_id: str,
        legs: Sequence[str],
        began_ns: int,
        onsets: Sequence[tuple[float, ...]],
        loop_s: float,
    ) -> None:
        """A call's first sample is being spoken now.

        Args:
            call_id: the call.
            legs: its legs.
            began_ns: now, nanoseconds since the epoch.
            onsets: of each leg, where its utterances begin, seconds from the start.
            loop_s: the call repeats itself after that.
        """
        for leg, begins in zip(legs, onsets, strict=True):
            self._legs[call_id, leg] = _Leg(began_ns, begins, loop_s)

    def call_ended(self, call_id: str, legs: Sequence[str], sent_s: float, published_s: float) -> None:
        """All of a call was sent, and so much of it is published."""
        self._unpublished_s += max(0.0, sent_s - published_s) * len(legs)

    def result(self, message: Mapping[str, Any], received_ns: int) -> None:
        """Take a message from the sink down."""
        if message["type"] == "dropped":
            self._lose(int(message["count"]), "interim results were dropped: the subscriber was too slow")
            return
        if message["type"] == "subscribed":
            for status in message.get("shedding", ()):
                self._system(status)
            return
        if message["type"] == "system":
            self._system(message)
            return
        if message["type"] not in ("activity", "features", "insight"):
            return
        leg = self._legs.get((message["call_id"], message["leg"]))
        if leg is None:
            return
        self._time(message, leg, received_ns)
        name, end = f"{message['stream']} {message['kind']}", message["start"] + message["duration"]
        rank = f"{message['type']}.{message['kind']}.{message['is_final']}"
        before = leg.newest.get(rank)
        if before is not None and end <= before + _TOLERANCE_S and message["kind"] != "speech_start":
            self._duplicated += 1
            return
        leg.newest[rank] = end
        self._check(message, leg, name, end, before)

    def _system(self, status: Mapping[str, Any]) -> None:
        worker, since_ns = status["worker"], status["since_ns"]
        began_ns = self._shedding.pop(worker, None)
        if "infer" in status["shed"]:
            self._shedding[worker] = since_ns if began_ns is None else began_ns
        elif began_ns is not None:
            self._shed_spans.append((began_ns, since_ns))

    def _unjudged_and_shed(self, leg: _Leg) -> int:
        """How many of its windows were made while infer was shed, or would have come to it then."""
        spans = self._shed_spans + [(since, 1 << 62) for since in self._shedding.values()]
        return sum(any(since - _SHED_WITHIN_NS <= at <= until for since, until in spans) for at in leg.described_ns)

    def _time(self, message: Mapping[str, Any], leg: _Leg, received_ns: int) -> None:
        ledger = message["ledger"]
        if self.measure_from_ns is not None and (ledger["arrived_ns"] or 0) < self.measure_from_ns:
            return
        self._latencies.append(ledger["latency_ms"])
        self._by_type[message["type"]].append(ledger["latency_ms"])
        since = ledger["arrived_ns"]
        for station in STATIONS:
            at = ledger.get(f"{station}_ns")
            if at:
                self._stages[station].append((at - since) / 1e6)
                since = at
        if message["kind"] == "speech_start":
            seconds = (received_ns - leg.began_ns) / 1e9
            turns = int(message["start"] // leg.loop_s)
            near = [
                seconds - onset - turn * leg.loop_s
                for turn in (turns - 1, turns)
                for onset in leg.onsets
                if _ONSET_WITHIN_S[0] < message["start"] - onset - turn * leg.loop_s < _ONSET_WITHIN_S[1]
            ]
            if near:
                self._onsets.append(min(near) * 1_000)

    def _check(self, message: Mapping[str, Any], leg: _Leg, name: str, end: float, before: float | None) -> None:
        start = message["start"]
        if message["type"] == "features":
            leg.described += 1
            if message["kind"] == "window":
                leg.described_ns.append(message["ledger"]["extracted_ns"] or 0)
            elif message.get("missing_because") == "shed":
                told_s = leg.window_end if leg.window_of == message["segment"] else start + _FIRST_WINDOW_S - _HOP_S
                self._shed += 1 + max(0, int((end - told_s + _TOLERANCE_S) / _HOP_S))
        match message["type"], message["kind"]:
            case "activity", "level":
                missing = start - (before or 0.0)
                if missing > _TOLERANCE_S:
                    self._lose(max(1, round(missing / 0.1)), f"{name}: nothing of {missing:.2f} s before {start:.2f} s")
            case "activity", "speech_start":
                if leg.speaking:
                    self._lose(1, f"{name}: speech started twice, at {start:.2f} s")
                leg.speaking = True
                leg.segments.add(message["segment"])
            case "activity", "speech_end":
                if not leg.speaking:
                    self._lose(1, f"{name}: speech ended that had not started, at {end:.2f} s")
                leg.speaking = False
            case "features", "window":
                if leg.window_of == message["segment"] and end - leg.window_end > 0.1 + _TOLERANCE_S:
                    self._lose(1, f"{name}: windows are missing before {end:.2f} s")
                leg.window_of, leg.window_end = message["segment"], end
            case "features", "utterance":
                leg.utterances.add(message["segment"])
            case "insight", model:
                leg.judged[model] = leg.judged.get(model, 0) + 1

    def finish(self, ended_s: float) -> None:
        """Nothing more will come; every leg was `ended_s` long at least."""
        for (call_id, name), leg in self._legs.items():
            told = leg.newest.get("activity.level.False", 0.0)
            if told < ended_s - _END_S:
                self._lose(max(1, round((ended_s - told) / 0.1)), f"{call_id}/{name}: no level after {told:.2f} s")
            if leg.speaking:
                self._lose(1, f"{call_id}/{name}: speech did not end")
            for segment in leg.segments - leg.utterances:
                self._lose(1, f"{call_id}/{name}: no utterance of the segment at {segment:.2f} s")
            for model, judged in leg.judged.items():
                missing = leg.described - judged
                shed = min(missing, self._unjudged_and_shed(leg)) if missing else 0
                self._shed += shed
                if missing > shed:
                    self._lose(missing - shed, f"{call_id}/{name}: {model} judged {judged} of {leg.described}")

    def _lose(self, count: int, because: str) -> None:
        self._lost += count
        if len(self._because) < 10:
            self._because.append(because)

    def summary(self) -> Summary:
        """What was seen so far."""
        return Summary(
            Spread.of(self._latencies),
            {name: Spread.of(values) for name, values in sorted(self._by_type.items())},
            {station: Spread.of(self._stages[station]) for station in STATIONS},
            Spread.of(self._onsets),
            self._lost,
            self._because,
            self._duplicated,
            self._shed,
            round(self._unpublished_s, 3),
        )
