"""Runs and calls out of an export: what was said at the time, or the audio, to be run again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from callscope.evaluation.judgement import Judgement, Run, Said
from callscope.evaluation.recordings import Call
from callscope.evaluation.spans import GRID, Span, on_grid, spoken_in
from callscope.exchange import folder as layout
from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from processors import wire
from processors.records import RATE_HZ, AudioFrame, Consent


def read_run(folder: Path) -> Run:
    """What an export's results say of each of its streams.

    A probability is that of the 100 ms that a `level` is about; when a start was told is not known.

    Raises:
        BadExport: there are no results in it, or they are damaged.
    """
    contents = layout.read(folder)
    hops: dict[StreamId, list[tuple[int, int, float]]] = defaultdict(list)
    spans: dict[StreamId, list[Span]] = defaultdict(list)
    detectors: dict[StreamId, str] = {}
    for row in layout.table_rows(
        folder, "activity", ["call_id", "leg", "kind", "start_s", "duration_s", "probability", "detector"]
    ):
        stream = StreamId(row["call_id"], row["leg"])
        detectors[stream] = row["detector"]
        if row["kind"] == "level":
            start, length = round(row["start_s"] * RATE_HZ), round(row["duration_s"] * RATE_HZ)
            hops[stream].append((start, length, row["probability"]))
        elif row["kind"] == "speech_end":
            spans[stream].append(_span(row))
    segments: dict[StreamId, list[Span]] = defaultdict(list)
    for row in layout.table_rows(folder, "features", ["call_id", "leg", "kind", "start_s", "duration_s"]):
        if row["kind"] == "utterance":
            segments[StreamId(row["call_id"], row["leg"])].append(_span(row))
    said: dict[StreamId, list[Said]] = defaultdict(list)
    columns = ["call_id", "leg", "kind", "start_s", "duration_s", "is_final", "model_version", "outputs"]
    for row in layout.table_rows(folder, "insights", columns):
        if row["is_final"]:
            outputs = {output["name"]: output["value"] for output in row["outputs"]}
            said[StreamId(row["call_id"], row["leg"])].append(
                Said(row["kind"], row["model_version"], _span(row), outputs)
            )
    run = {}
    for call, legs in contents.calls.items():
        for name, leg in legs.items():
            stream, frames = StreamId(call, name), round(leg.seconds * RATE_HZ) // GRID
            found = tuple(sorted(spans[stream]))
            run[stream] = Judgement(
                probability=on_grid(hops[stream], frames),
                spoken=spoken_in(found, frames),
                spans=found,
                segments=tuple(sorted(segments[stream])),
                said=tuple(said[stream]),
                detector=detectors.get(stream, ""),
            )
    return run


def _span(row: dict[str, float]) -> Span:
    return row["start_s"], row["start_s"] + row["duration_s"]


def read_calls(folder: Path) -> Iterator[Call]:
    """The calls of an export with their audio as it came in, holes included, and with their consents.

    The audio of the calls that ran at the same time is held at once.

    Raises:
        BadExport: the export is damaged.
    """
    contents = layout.read(folder)
    consents: dict[str, list[Consent]] = defaultdict(list)
    for stored in layout.stored_records(folder, CALL_EVENTS):
        try:
            consent = wire.decode_consent(stored.value, stored.timestamp_ms)
        except wire.Undecodable:
            continue  # the export has counted it
        if consent is not None:
            consents[consent.call_id].append(consent)
    waiting: dict[str, dict[str, list[AudioFrame]]] = defaultdict(dict)
    for stored in layout.stored_records(folder, AUDIO_FRAMES):
        try:
            frame = wire.decode(stored.topic, stored.value).record
        except wire.Undecodable:
            continue  # the export has counted it
        assert isinstance(frame, AudioFrame)
        call = frame.stream.call_id
        legs = waiting[call]
        legs.setdefault(frame.stream.leg, []).append(frame)
        if frame.last and all(name in legs and legs[name][-1].last for name in contents.calls.get(call, {})):
            yield Call(call, waiting.pop(call), consents[call])
    for call, legs in waiting.items():
        yield Call(call, legs, consents[call])


def read_audio(folder: Path, call: str) -> Call:
    """One call of an export.

    Raises:
        BadExport: the export is damaged.
    """
    legs: dict[str, list[AudioFrame]] = {}
    for stored in layout.stored_records(folder, AUDIO_FRAMES, {call}):
        try:
            frame = wire.decode(stored.topic, stored.value).record
        except wire.Undecodable:
            continue
        assert isinstance(frame, AudioFrame)
        legs.setdefault(frame.stream.leg, []).append(frame)
    return Call(call, legs)
