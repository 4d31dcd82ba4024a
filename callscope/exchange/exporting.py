"""From the topics to a folder: records byte for byte, audio as WAV, results as tables and lines of JSON.

Partition by partition, and within each topic by topic: what is held at a time is a row group of each file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from google.protobuf.message import DecodeError

from callscope.config import Settings
from callscope.errors import BadExport
from callscope.exchange import folder as layout
from callscope.exchange.folder import Contents, ExportedLeg
from callscope.exchange.retained import Retained, Stored, call_of
from callscope.exchange.tables import RECORDS, TABLES, TableWriter, record_row
from callscope.exchange.wav import RATE_HZ, LegFiles, safe_name, stereo
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, TOPICS, VOICE_SPEECH, Topic, partition_of
from schemas.v1.audio_pb2 import AudioFrame
from sinks.messages import RESULT_TOPICS, Undecodable, message_of

RESULTS: Final = tuple(topic for topic in TOPICS if topic not in (AUDIO_FRAMES, CALL_EVENTS, VOICE_SPEECH))
"""Topics of results. voice.speech is none: it is a part of audio.frames."""
_REMEMBERED: Final = 131_072
"""How many results of a partition are remembered, to tell those that come again; as the sink does."""

Progress = Callable[[int, int], None]
"""Told records read, and records to read."""


@dataclass(frozen=True)
class Choice:
    """What to export.

    Attributes:
        calls: ids; empty: every call.
        since_ms: calls of which anything came at that time or later, milliseconds since the epoch.
        until_ms: and anything before that time.
        audio: "leg": a WAV file a leg; "stereo": a call of two legs as one file; "none".
        results: of "parquet", "jsonl", and "records" (results byte for byte, to be imported).
    """

    calls: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    audio: Literal["leg", "stereo", "none"] = "leg"
    results: Collection[str] = ("parquet", "jsonl")


def export(settings: Settings, choice: Choice, folder: Path, progress: Progress) -> Contents:
    """Write calls out. A call that is chosen is exported whole, as far as it is still kept.

    Args:
        settings: where Kafka is.
        choice: what of.
        folder: where to; made if it is not there, and must be empty.
        progress: told how far it is.

    Returns:
        What the export holds.

    Raises:
        BadExport: the folder cannot be written, a call is not there, or nothing is.
        KafkaUnreachable: the broker does not answer, or no more.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BadExport(f"{folder} is not empty. Name a new folder.")
        with Retained(settings, TOPICS) as retained:
            return _export(retained, choice, folder, progress)
    except OSError as error:
        raise BadExport(f"{folder} cannot be written: {error}. What is there is not whole.") from error


def _export(retained: Retained, choice: Choice, folder: Path, progress: Progress) -> Contents:
    topics = [CALL_EVENTS, AUDIO_FRAMES, *(RESULTS if choice.results else ())]
    partitions: Sequence[int] = range(retained.partitions)
    if choice.calls and retained.partitions:
        partitions_of_calls = {partition_of(call, retained.partitions) for call in choice.calls}
        partitions = [number for number in partitions if number in partitions_of_calls]
    chosen: Collection[str] | None = choice.calls or None
    if choice.since_ms is not None or choice.until_ms is not None:
        chosen = _calls_between(retained, choice, partitions)
    total, done = retained.count(topics, partitions), 0
    with ExitStack() as files:
        writer = ExportWriter(folder, choice, files, retained.partitions)
        for partition in partitions:
            for topic in topics:
                for stored in retained.records(topic, partition):
                    done += 1
                    if done % 500 == 0:
                        progress(done, total)
                    call = call_of(topic, stored.key)
                    if call is None:
                        writer.contents.unreadable += 1
                    elif chosen is None or call in chosen:
                        writer.add(topic, stored, call)
            writer.partition_done()
    progress(total, total)
    missing = sorted(set(choice.calls) - set(writer.contents.calls))
    if missing:
        raise BadExport(
            f"Not in the topics (any more): {', '.join(missing)}. What is there lies in {folder}, but without "
            f"{layout.MANIFEST} it is no whole export. `callscope topics` says what is kept, and how long."
        )
    if not writer.contents.calls:
        raise BadExport("The topics hold no calls" + (" of that time." if chosen is not None else "."))
    writer.finish()
    layout.write(folder, writer.contents, {"audio": choice.audio, "results": sorted(choice.results)})
    return writer.contents


def _calls_between(retained: Retained, choice: Choice, partitions: Collection[int]) -> set[str]:
    """The calls of which anything was heard or happened in the time."""
    found = {
        call_of(topic, stored.key)
        for partition in partitions
        for topic in (CALL_EVENTS, AUDIO_FRAMES)
        for stored in retained.records(topic, partition, choice.since_ms, choice.until_ms)
    }
    calls = {call for call in found if call}
    return calls & set(choice.calls) if choice.calls else calls


class ExportWriter:
    """The files of an export that is being written."""

    def __init__(self, folder: Path, choice: Choice, files: ExitStack, partitions: int) -> None:
        self.contents = Contents(partitions=partitions)
        self._folder = folder
        self._choice = choice
        self._files = files
        self._records: dict[str, TableWriter] = {}
        self._tables: dict[str, TableWriter] = {}
        self._lines: dict[str, IO[bytes]] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._ends: dict[tuple[str, str], ExportedLeg] = {}
        self._legs: LegFiles | None = None
        (folder / layout.RECORDS).mkdir()
        for topic in (CALL_EVENTS, AUDIO_FRAMES, *(RESULTS if "records" in choice.results else ())):
            self._records[topic.name] = self._table(layout.records_file(folder, topic.name), RECORDS)
        if "parquet" in choice.results or "jsonl" in choice.results:
            (folder / layout.RESULTS).mkdir()
        if "parquet" in choice.results:
            for topic_name, (name, schema, _) in TABLES.items():
                self._tables[topic_name] = self._table(folder / layout.RESULTS / f"{name}.parquet", schema)
        if choice.audio != "none":
            self._legs = LegFiles(folder / layout.AUDIO)
            files.callback(self._legs.close)

    def _table(self, path: Path, schema: object) -> TableWriter:
        table = TableWriter(path, schema)
        self._files.callback(table.close)
        return table

    def add(self, topic: Topic, stored: Stored, call: str) -> None:
        """Take in a record of a call that is exported."""
        self.contents.calls.setdefault(call, {})
        self.contents.records[topic.name] = self.contents.records.get(topic.name, 0) + 1
        if topic.name in self._records:
            self._records[topic.name].add(record_row(stored, call), len(stored.value))
        try:
            if topic is AUDIO_FRAMES:
                self._hear(AudioFrame.FromString(stored.value), call)
            elif topic.name in RESULT_TOPICS:
                self._tell(topic, stored)
        except (DecodeError, Undecodable):
            self.contents.unreadable += 1

    def _hear(self, frame: AudioFrame, call: str) -> None:
        if not frame.leg or frame.call_id != call:
            self.contents.unreadable += 1
            return
        leg = self.contents.calls[call].setdefault(frame.leg, ExportedLeg())
        leg.records += 1
        leg.ended = leg.ended or frame.last
        end = (frame.start + len(frame.pcm) // 2) / RATE_HZ
        if frame.gap_before:
            leg.gaps += 1
            leg.gap_seconds += frame.gap_before / RATE_HZ
        leg.seconds = max(leg.seconds, end)
        if self._legs is not None:
            self._legs.add(frame)

    def _tell(self, topic: Topic, stored: Stored) -> None:
        message = message_of(topic.name, stored.value)
        if message is None:
            return
        if message.id in self._seen:
            self.contents.duplicates += 1
            return
        self._seen[message.id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        name, _, fields_of = TABLES.get(topic.name, (topic.name.replace(".", "_"), None, None))
        if "jsonl" in self._choice.results:
            self._line_file(name).write(message.kept() + b"\n")
        if topic.name in self._tables and fields_of is not None:
            row = {
                "id": message.id,
                "call_id": message.call_id,
                "leg": message.leg or None,
                "kind": message.kind,
                "start_s": message.start / RATE_HZ,
                "duration_s": message.duration / RATE_HZ,
                "is_final": message.is_final,
                "timestamp_ms": stored.timestamp_ms,
                **fields_of(stored.value),
            }
            self._tables[topic.name].add(row, len(stored.value))

    def _line_file(self, name: str) -> IO[bytes]:
        if name not in self._lines:
            path = self._folder / layout.RESULTS / f"{name}.jsonl"
            self._lines[name] = self._files.enter_context(path.open("wb"))
        return self._lines[name]

    def partition_done(self) -> None:
        """The next records are of another partition, and so of other calls."""
        self._seen.clear()

    def finish(self) -> None:
        """All files are closed: name the audio files, and join legs where that is asked for."""
        if self._legs is None:
            return
        for stream, written in self._legs.legs.items():
            leg = self.contents.calls[stream.call_id][stream.leg]
            leg.gaps, leg.gap_seconds = written.gaps, written.gap_samples / RATE_HZ
            leg.cut = written.cut
            if written.path.exists():
                leg.wav = str(written.path.relative_to(self._folder))
        if self._choice.audio == "stereo":
            for call, legs in self._calls_with_audio():
                to = self._folder / layout.AUDIO / f"{safe_name(call)}.wav"
                paths = [self._folder / str(leg.wav) for leg in legs]
                stereo(paths, to)
                paths[0].parent.rmdir()
                for leg in legs:
                    leg.wav = str(to.relative_to(self._folder))

    def _calls_with_audio(self) -> Iterator[tuple[str, list[ExportedLeg]]]:
        """Calls of one or two legs with audio; those of more keep a file a leg."""
        for call, legs in self.contents.calls.items():
            heard = [leg for _, leg in sorted(legs.items(), key=_customer_left) if leg.wav]
            if 1 <= len(heard) <= 2:
                yield call, heard


def _customer_left(leg: tuple[str, ExportedLeg]) -> tuple[bool, str]:
    return leg[0] not in ("customer", "caller"), leg[0]
