"""The broker's directory: who uses it, which Kafka wrote it, whether there is room.

::

    lock                    held by the broker as long as it lives; says whose it is
    server.properties       written at each start
    log4j2.properties
    log/kafka.log           of the running or last broker (then .1 to .3); kafka.previous.log of the one before
    log/console.log         what Java itself had to say
    data/                   the records
    data/callscope-kafka-version
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Final

import psutil

from callscope.broker.ports import HOST
from callscope.clock import monotonic
from callscope.errors import DataFromAnotherVersion, DataInUse, DiskFull

NEEDED_BYTES: Final = 500_000_000
NEEDED_BYTES_EPHEMERAL: Final = 100_000_000

_ANOTHER = "set CALLSCOPE_BROKER__DATA_DIR to another folder"


class DataDir:
    """One directory of one broker."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.unfinished = root / "data.unfinished"
        self.version_file = self.data / "callscope-kafka-version"
        self.log = root / "log" / "kafka.log"
        self.console = root / "log" / "console.log"
        self._lock_file = root / "lock"

    def create(self) -> None:
        """Make the folders; only this user may look into them, calls are in there."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(exist_ok=True)

    def lock(self, patience_s: float) -> int:
        """Take the directory.

        Args:
            patience_s: how long to wait for a broker whose parent has died and which is on its way out.

        Returns:
            A file descriptor; the lock lasts while any process has it or a copy open.

        Raises:
            DataInUse: another broker has it.
        """
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = monotonic() + patience_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner, port = self._owner()
                if psutil.pid_exists(owner) or monotonic() > deadline:
                    os.close(lock)
                    raise data_in_use(self.root, f"started by process {owner}", port) from error
                time.sleep(0.1)
            else:
                self.note_owner(lock, 0)
                return lock

    def note_owner(self, lock: int, port: int) -> None:
        """Write into the lock whose it is, and the port for clients once known: for those who find it taken."""
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} {port}".encode(), 0)

    def _owner(self) -> tuple[int, int]:
        words = self._lock_file.read_text().split()
        return (int(words[0]), int(words[1])) if len(words) == 2 else (0, 0)  # taken this very moment

    def check_room(self, needed: int) -> None:
        """Raises `DiskFull` unless `needed` bytes are free."""
        if shutil.disk_usage(self.root).free < needed:
            raise disk_full(self.root, needed)

    def is_new(self, kafka_version: str) -> bool:
        """Whether there are no records yet.

        Raises:
            DataFromAnotherVersion: there are, and another Kafka than `kafka_version` wrote them.
        """
        if not self.data.exists():
            return True
        found = self.version_file.read_text().strip() if self.version_file.exists() else "an unknown version"
        if found != kafka_version:
            raise DataFromAnotherVersion(
                f"The records in {self.data} were written by Kafka {found}; this Callscope runs {kafka_version}. Use "
                f"the Callscope that wrote them, or {_ANOTHER}, or move this one away: nothing is lost but the history."
            )
        return False

    def finish_format(self, kafka_version: str) -> None:
        """Declare the freshly formatted folder complete, in one step: an interrupted format starts over."""
        (self.unfinished / self.version_file.name).write_text(f"{kafka_version}\n")
        self.unfinished.rename(self.data)

    def keep_previous_log(self) -> None:
        """Move the last broker's log aside, so that `log` and `console` are of this start alone."""
        if self.log.exists():
            self.log.replace(self.log.with_name("kafka.previous.log"))
        self.console.write_bytes(b"")

    def log_text(self) -> str:
        """The end of what this start's broker and its Java wrote, at most 64 kB of each."""
        return "".join(_end(path) for path in (self.log, self.console) if path.exists())


def _end(path: Path, size: int = 65_536) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode(errors="replace")


def data_in_use(root: Path, by: str, port: int = 0) -> DataInUse:
    """The error, with what to do."""
    use_it = f"Use that one with CALLSCOPE_KAFKA={HOST}:{port}, or" if port else "Stop it, or"
    return DataInUse(f"Another broker runs on {root} ({by}). {use_it} {_ANOTHER}.")


def disk_full(root: Path, needed: int) -> DiskFull:
    """The error, with what to do."""
    return DiskFull(
        f"Kafka's data in {root} needs at least {needed / 1e6:.0f} MB; {shutil.disk_usage(root).free / 1e6:.0f} MB are "
        f"free. Make room, or {_ANOTHER}."
    )
