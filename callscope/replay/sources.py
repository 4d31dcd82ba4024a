"""Where a replay's audio comes from: the topic, an exported folder, or audio files; always by partition, in order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import soundfile

from callscope import clock
from callscope.config import Settings
from callscope.errors import BadExport, BadReplay
from callscope.evaluation import recordings
from callscope.exchange import folder as layout
from callscope.exchange.retained import Retained, Stored, call_of
from callscope.replay.plan import Part, Plan
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, partition_of
from processors import telemetry, wire
from processors.intake import decode_record
from processors.records import FRAME_SAMPLES, RATE_HZ, AudioFrame, Consent, Envelope, Ledger


class Taken(NamedTuple):
    """A record of audio.

    Attributes:
        offset: where it lay.
        call: whose, by its key; "" if that names none.
        envelope: what it holds; None if live workers would not take it either.
    """

    offset: int
    call: str
    envelope: Envelope | None


class Source(Protocol):
    """Audio by partition."""

    def parts(self) -> list[Part]:
        """What there is."""

    def records(self, part: Part, first: int) -> Iterator[Taken]:
        """A partition's records from an offset on.

        Raises:
            CallscopeError: they cannot be read, or not any more.
        """

    def consents(self, part: Part) -> list[Consent]:
        """What was allowed or refused in the partition's calls, in order."""

    def calls_between(self, since_ms: int | None, until_ms: int | None) -> set[str]:
        """Calls of which audio came in a time, milliseconds since the epoch; None: no bound."""


def source_of(plan: Plan, settings: Settings) -> Source:
    """Where a plan's audio comes from."""
    match plan.source:
        case "kafka":
            return FromKafka(settings, plan.partitions)
        case "export":
            return FromExport(Path(plan.paths[0]))
        case "files":
            return FromFiles([Path(path) for path in plan.paths], plan.legs, plan.partitions)


class FromKafka:
    """What `audio.frames` holds. Read without a group: nobody's offsets change.

    Args:
        settings: where Kafka is.
        partitions: how many the topic has.
    """

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._settings = settings
        self._partitions = partitions

    def parts(self) -> list[Part]:
        """See `Source`."""
        with Retained(self._settings, [AUDIO_FRAMES]) as retained:
            extents = [(number, *retained.extent(AUDIO_FRAMES, number)) for number in range(retained.partitions)]
        return [Part(number, first, end, end - first) for number, first, end in extents]

    def records(self, part: Part, first: int) -> Iterator[Taken]:
        """See `Source`."""
        with Retained(self._settings, [AUDIO_FRAMES], [part.number]) as retained:
            kept = retained.extent(AUDIO_FRAMES, part.number)[0]
            if first < kept and first < part.end:
                raise BadReplay(
                    f"Kafka does not keep records {first} to {min(kept, part.end) - 1} of partition {part.number} of "
                    f"{AUDIO_FRAMES.name} any more, and the run needs them. Begin a new run with what is left."
                )
            for stored in retained.records(AUDIO_FRAMES, part.number, first_offset=first, end_offset=part.end):
                yield _taken(stored, self._partitions)

    def consents(self, part: Part) -> list[Consent]:
        """See `Source`."""
        with Retained(self._settings, [CALL_EVENTS], [part.number]) as retained:
            return _consents(retained.records(CALL_EVENTS, part.number))

    def calls_between(self, since_ms: int | None, until_ms: int | None) -> set[str]:
        """See `Source`."""
        with Retained(self._settings, [AUDIO_FRAMES]) as retained:
            return {
                call
                for number in range(retained.partitions)
                for stored in retained.records(AUDIO_FRAMES, number, since_ms, until_ms)
                if (call := call_of(AUDIO_FRAMES, stored.key))
            }


class FromExport:
    """What `callscope export` wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partitions = layout.read(folder).partitions

    def parts(self) -> list[Part]:
        """See `Source`."""
        first: dict[int, int] = {}
        end: dict[int, int] = {}
        records: Counter[int] = Counter()
        for row in layout.record_columns(self._folder, AUDIO_FRAMES, ["partition", "offset"]):
            number, offset = row["partition"], row["offset"]
            first.setdefault(number, offset)
            end[number] = offset + 1
            records[number] += 1
        return [Part(number, first[number], end[number], records[number]) for number in sorted(records)]

    def records(self, part: Part, first: int) -> Iterator[Taken]:
        """See `Source`."""
        for stored in layout.stored_records(self._folder, AUDIO_FRAMES, partition=part.number):
            if first <= stored.offset < part.end:
                yield _taken(stored, self._partitions)

    def consents(self, part: Part) -> list[Consent]:
        """See `Source`."""
        return _consents(layout.stored_records(self._folder, CALL_EVENTS, partition=part.number))

    def calls_between(self, since_ms: int | None, until_ms: int | None) -> set[str]:
        """See `Source`."""
        return {
            row["call_id"]
            for row in layout.record_columns(self._folder, AUDIO_FRAMES, ["call_id", "timestamp_ms"])
            if (since_ms is None or row["timestamp_ms"] >= since_ms)
            and (until_ms is None or row["timestamp_ms"] < until_ms)
        }


class FromFiles:
    """Audio files, each a call by the name of its file; in partitions as if they had come in by the gateway.

    Args:
        paths: files, and folders of files.
        legs: names of the channels, left first.
        partitions: how many there are.
    """

    def __init__(self, paths: Sequence[Path], legs: Sequence[str], partitions: int) -> None:
        self._legs = legs
        self._files: dict[int, list[Path]] = defaultdict(list)
        known: dict[str, Path] = {}
        for path in paths:
            if not path.exists():
                raise BadReplay(f"{path} is not there.")
            for file in recordings.files_of(path):
                if known.setdefault(file.stem, file) != file:
                    raise BadReplay(f"{known[file.stem]} and {file} would be calls of the same name. Rename one.")
                self._files[partition_of(file.stem, partitions)].append(file)

    def parts(self) -> list[Part]:
        """See `Source`. Records are about as many as the files are long: 20 ms each, and one that ends each leg."""
        parts = []
        for number, files in sorted(self._files.items()):
            records = sum(_records_of(file) for file in files)
            parts.append(Part(number, 0, records, records))
        return parts

    def records(self, part: Part, first: int) -> Iterator[Taken]:
        """See `Source`. The legs of a file beside one another; the files as if they arrived one after the other now."""
        offset, began_ns = 0, clock.wall_ns()
        for file in self._files[part.number]:
            call = self._call(file)
            for frame in sorted((frame for leg in call.legs.values() for frame in leg), key=_when):
                if offset >= first:
                    arrived_ns = began_ns + (frame.start + len(frame.pcm)) * 1_000_000_000 // RATE_HZ
                    yield Taken(offset, frame.stream.call_id, Envelope(frame, Ledger(arrived_ns)))
                offset += 1
            began_ns += int(call.length_s * 1e9)

    def consents(self, part: Part) -> list[Consent]:
        """Nobody said anything."""
        return []

    def calls_between(self, since_ms: int | None, until_ms: int | None) -> set[str]:
        """Files have no time: all of them."""
        return {file.stem for files in self._files.values() for file in files}

    def _call(self, file: Path) -> recordings.Call:
        return recordings.read_call(file, self._legs, mono=False)


def _records_of(file: Path) -> int:
    try:
        info = soundfile.info(file)
    except (soundfile.LibsndfileError, OSError) as error:
        raise BadReplay(f"{file} cannot be read as audio ({error}).") from error
    return int(info.channels * (info.duration * RATE_HZ // FRAME_SAMPLES + 1))


def _when(frame: AudioFrame) -> tuple[int, str]:
    return frame.start, frame.stream.leg


def _taken(stored: Stored, partitions: int) -> Taken:
    call = call_of(AUDIO_FRAMES, stored.key) or ""
    try:
        record = decode_record(AUDIO_FRAMES.name, stored.partition, stored.key, stored.value, partitions)
        return Taken(stored.offset, call, record)
    except wire.Undecodable as error:
        telemetry.record_undecodable(AUDIO_FRAMES.name, stored.partition, stored.offset, str(error))
        return Taken(stored.offset, call, None)


def _consents(events: Iterator[Stored]) -> list[Consent]:
    found = []
    for stored in events:
        try:
            # As of one time, whenever they were written: `Consents` forgets those that are old beside others, and here
            # all of them are wanted at once.
            consent = wire.decode_consent(stored.value, written_ms=0)
        except wire.Undecodable as error:
            telemetry.record_undecodable(CALL_EVENTS.name, stored.partition, stored.offset, str(error))
            continue
        if consent is not None:
            found.append(consent)
    return found


def is_export(paths: Sequence[Path]) -> bool:
    """Whether what was named is the folder of an export.

    Raises:
        BadExport: it is one, beside other things.
    """
    exports = [path for path in paths if path.is_dir() and layout.is_export(path)]
    if exports and len(paths) > 1:
        raise BadExport(f"{exports[0]} is an export: replay it by itself.")
    return bool(exports)
