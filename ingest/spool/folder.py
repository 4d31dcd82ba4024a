"""The spool's files: one gateway's folder of segments, written and read by one thread that is not the event loop's.

`<spool>/<cluster id>/<folder>/<partition>-<number>.spool`. The folder is below the id of the Kafka cluster whose
records it holds, so that no other cluster ever gets them; it is made when it is first needed, and removed when it is
empty. A lock says that a gateway uses it; folders of gateways that are gone are taken over at the next start.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ingest import telemetry
from ingest.spool import framing
from ingest.spool.framing import HEADER_BYTES, MARK_AT, Spooled

_LOCK: Final = "lock"
_NAME: Final = re.compile(r"(\d{4})-(\d{8})\.spool")
_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Found:
    """A segment that an earlier process left.

    Attributes:
        partition: whose records it holds.
        number: its number among the partition's.
        delivered: offset up to which Kafka has them.
        length: offset at which the last whole frame ends.
        records: how many there are between the two.
    """

    partition: int
    number: int
    delivered: int
    length: int
    records: int


@dataclass(slots=True)
class Job:
    """What the thread is to do, in this order. Segments are named by partition and number.

    Attributes:
        writes: by partition: number, offset, bytes.
        reads: partition, number, offset, bytes wanted.
        marks: partition, number, offset up to which Kafka has everything.
        removes: partition, number.
        sync: what was written is to be safe from a power cut too.
    """

    writes: dict[int, list[tuple[int, int, bytes]]] = field(default_factory=dict)
    reads: list[tuple[int, int, int, int]] = field(default_factory=list)
    marks: list[tuple[int, int, int]] = field(default_factory=list)
    removes: list[tuple[int, int]] = field(default_factory=list)
    sync: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.writes or self.reads or self.marks or self.removes or self.sync)


@dataclass(slots=True)
class Done:
    """What became of a job.

    Attributes:
        written: partitions whose writes are in their files.
        read: by partition and number: the records, as `framing.decode` gives them.
        free_bytes: what the file system has left for us.
        error: the first thing that went wrong.
    """

    written: set[int] = field(default_factory=set)
    read: dict[tuple[int, int], tuple[list[tuple[Spooled, int]], bool]] = field(default_factory=dict)
    free_bytes: int | None = None
    error: OSError | None = None


class SpoolFolder:
    """One gateway's segments. After `open`, all calls come from one thread at a time.

    Args:
        root: of all gateways, for one cluster.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder: Path | None = None
        self._lock: int | None = None
        self._files: dict[tuple[int, int], int] = {}
        self._unsynced: set[tuple[int, int]] = set()

    def open(self) -> list[Found]:
        """Take over what gateways that are gone have left; cut what is torn at the end of a segment.

        Returns:
            The segments in order.

        Raises:
            OSError: the folders cannot be read, or no folder could be made when it is needed.
        """
        there = next(folder for folder in (self.root, *self.root.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(f"nothing can be written below {there}")
        taken: defaultdict[int, int] = defaultdict(int)
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            lock = _locked(folder)
            if lock is None:
                continue
            if self._folder is None:
                self._folder, self._lock = folder, lock
                for partition, number, _ in _segments(folder):
                    taken[partition] = max(taken[partition], number)
                continue
            for partition, _, path in _segments(folder):
                taken[partition] += 1
                path.rename(self._path(partition, taken[partition]))
            _remove_folder(folder, lock)
        if self._folder is None:
            return []
        found = [_checked(*segment) for segment in _segments(self._folder)]
        return [segment for segment in found if segment is not None]

    def work(self, job: Job) -> Done:
        """Do a job; what cannot be done is told, and changes nothing."""
        done = Done()
        for partition, pieces in job.writes.items():
            try:
                for number, offset, data in pieces:
                    self._write(partition, number, offset, data)
                done.written.add(partition)
            except OSError as error:
                done.error = done.error or error
        for partition, number, offset, size in job.reads:
            try:
                data = os.pread(self._file(partition, number), size, offset)
                done.read[partition, number] = framing.decode(data)
            except OSError as error:
                done.error = done.error or error
        try:
            if job.sync:
                self._sync()
            for partition, number, delivered in job.marks:
                os.pwrite(self._file(partition, number), framing.mark(delivered), MARK_AT)
            for partition, number in job.removes:
                self._remove(partition, number)
            if self._folder is not None:
                free = os.statvfs(self._folder)
                done.free_bytes = free.f_bavail * free.f_frsize
        except OSError as error:
            done.error = done.error or error
        return done

    def close(self) -> None:
        """Let go of the folder; remove it where nothing is left in it."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        if self._folder is not None and self._lock is not None:
            if not any(_segments(self._folder)):
                _remove_folder(self._folder, self._lock)
            else:
                os.close(self._lock)
        self._folder = self._lock = None

    def _write(self, partition: int, number: int, offset: int, data: bytes) -> None:
        if offset == HEADER_BYTES:
            data, offset = framing.header() + data, 0
        file = self._file(partition, number)
        self._unsynced.add((partition, number))
        left, at = memoryview(data), offset
        try:
            while left:
                written = os.pwrite(file, left, at)
                left, at = left[written:], at + written
        except OSError:
            with suppress(OSError):  # a part of it may be there, and must not be taken for what comes to its place
                os.ftruncate(file, offset)
            raise

    def _file(self, partition: int, number: int) -> int:
        file = self._files.get((partition, number))
        if file is None:
            if self._folder is None:
                self._make()
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            file = self._files[partition, number] = os.open(self._path(partition, number), flags, _MODE)
        return file

    def _make(self) -> None:
        folder = self.root / secrets.token_hex(4)
        folder.mkdir(mode=0o700, parents=True)
        lock = _locked(folder)
        if lock is None:  # a gateway that started this very moment took it for an old one
            raise BlockingIOError(f"{folder} was taken over by another gateway")
        self._folder, self._lock = folder, lock

    def _sync(self) -> None:
        for segment in list(self._unsynced):
            os.fsync(self._files[segment])
            self._unsynced.discard(segment)

    def _remove(self, partition: int, number: int) -> None:
        file = self._files.pop((partition, number), None)
        if file is not None:
            os.close(file)
        self._unsynced.discard((partition, number))
        if self._folder is not None:
            self._path(partition, number).unlink(missing_ok=True)

    def _path(self, partition: int, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{partition:04d}-{number:08d}.spool"


def _segments(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Partition, number and path of each segment, in order."""
    for path in sorted(folder.iterdir()):
        if named := _NAME.fullmatch(path.name):
            yield int(named[1]), int(named[2]), path


def _locked(folder: Path) -> int | None:
    """A lock on a folder; None where a gateway has it, or it is none or is gone meanwhile."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _remove_folder(folder: Path, lock: int) -> None:
    (folder / _LOCK).unlink(missing_ok=True)
    os.close(lock)
    try:
        folder.rmdir()
    except OSError as error:  # somebody put something else there
        telemetry.spool_left_over(str(folder), str(error))


def _checked(partition: int, number: int, path: Path) -> Found | None:
    """What a segment holds; what is torn at its end, as by a crash in the middle of a write, is cut off."""
    data = path.read_bytes()
    delivered = framing.delivered_of(data[:HEADER_BYTES])
    if delivered is None:
        telemetry.spool_torn(str(path), len(data))
        if len(data) < HEADER_BYTES:  # it was being made
            path.unlink()
        else:
            path.rename(path.with_suffix(".unreadable"))
        return None
    frames, _ = framing.decode(data[HEADER_BYTES:])
    ends = [HEADER_BYTES + end for _, end in frames]
    length = ends[-1] if ends else HEADER_BYTES
    if length < len(data):
        telemetry.spool_torn(str(path), len(data) - length)
        os.truncate(path, length)
    delivered = min(delivered, length)
    return Found(partition, number, delivered, length, sum(end > delivered for end in ends))
