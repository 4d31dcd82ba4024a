"""A disk of the run's own that can be filled and made to stand still: a file system in a file, on a loop device."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

TOOLS: Final = ("mkfs.ext4", "mount", "umount", "fsfreeze")


def why_not() -> str | None:
    """Why no such disk can be had here; None if it can."""
    if os.geteuid() != 0:
        return "a disk of its own needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"a disk of its own needs {', '.join(missing)}"
    if not Path("/dev/loop-control").exists():
        return "a disk of its own needs loop devices"
    return None


class Disk:
    """An ext4 of its own; a context manager that leaves nothing behind.

    Attributes:
        root: where it is mounted.

    Args:
        size_mb: how large; what is not written takes no room on the real disk.
    """

    def __init__(self, size_mb: int) -> None:
        self._size_mb = size_mb
        self._folder = Path(tempfile.mkdtemp(prefix="callscope-chaos-disk-"))
        self._ballast = self._folder / "mounted" / "ballast"
        self._frozen = False
        self.root = self._folder / "mounted"

    def __enter__(self) -> Self:
        image = self._folder / "image"
        with image.open("wb") as file:
            file.truncate(self._size_mb << 20)
        self.root.mkdir()
        _run("mkfs.ext4", "-q", "-m", "0", image)
        _run("mount", "-o", "loop", image, self.root)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        _run("umount", self.root)
        shutil.rmtree(self._folder)

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("wb") as file:
            size = 64 << 20
            while size:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), size)
                    file.seek(0, os.SEEK_END)
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let whoever writes wait; see fsfreeze(8)."""
        _run("fsfreeze", "-f", self.root)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        if self._frozen:
            _run("fsfreeze", "-u", self.root)
            self._frozen = False


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
