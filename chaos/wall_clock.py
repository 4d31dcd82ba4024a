"""The wall clock of the gateway, the workers and the sink, set ahead or back as a bad time server does.

libfaketime (Debian: `apt-get install libfaketime`) stands between these programs and the clock; time that only runs
forward (CLOCK_MONOTONIC) it leaves alone, as a jump of the wall clock does. The broker and the callers keep the time.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Final

_LIBRARIES: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


def _library() -> str | None:
    return next((path for pattern in _LIBRARIES for path in glob.glob(pattern)), None)


def why_not() -> str | None:
    """Why the clock cannot be set here; None if it can."""
    return None if _library() else "setting the clock needs libfaketime (Debian: apt-get install libfaketime)"


class WallClock:
    """The clock of those who are started with `environment`.

    Args:
        file: what libfaketime reads twice a second.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set_off(0)

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to go by this clock."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Or it takes the deadlines of waits on CLOCK_MONOTONIC for others, and they end at once: every Python
            # thread that waits for its interpreter then spins, and all costs several times as much.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def set_off(self, seconds: int) -> None:
        """Let it be so far ahead of the true time, or behind it."""
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{seconds:+d}\n")
        aside.replace(self._file)
