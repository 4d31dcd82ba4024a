"""The broker's jars: the committed list, and fetching them once into this user's cache, checked by SHA-256.

The cache is laid out as a Maven repository, so that one machine's cache, served over HTTP, is a mirror for others.
"""

from __future__ import annotations

import errno
import shutil
import threading
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import platformdirs
import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from callscope.errors import BrokerError, ChecksumMismatch, DiskFull, DownloadFailed

MAVEN_CENTRAL: Final = "https://repo.maven.apache.org/maven2"
"""Where the jars come from unless `broker.mirror` names another base URL."""

CACHE_DIR: Final = Path(platformdirs.user_cache_dir("callscope", appauthor=False)) / "jars"
"""This user's copy, shared by every checkout and virtual environment."""

_PARALLEL: Final = 6
_TIMEOUT_S: Final = 15.0
_CHUNK_BYTES: Final = 64 * 1024

Advance = Callable[[int], None]
"""Told of bytes as they arrive; a negative number takes back those of an attempt that failed. From any thread."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One listed file.

    Attributes:
        path: relative to a Maven repository's base URL, and to the cache.
        size: bytes.
        sha256: hexadecimal.
        licence: SPDX identifier(s), as its POM states.
    """

    path: str
    size: int
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True)
class JarList:
    """`jars.toml`: one version of Kafka and all it needs at run time."""

    kafka_version: str
    jars: tuple[Jar, ...]


@cache
def listed() -> JarList:
    """The committed list."""
    table = tomllib.loads(resources.files("callscope.broker").joinpath("jars.toml").read_text(encoding="utf-8"))
    return JarList(table["kafka_version"], tuple(Jar(**jar) for jar in table["jar"]))


def missing_jars(cache_dir: Path = CACHE_DIR) -> list[Jar]:
    """The listed jars that the cache lacks or has with other bytes. Reads and hashes 43 MB."""

    def is_good(jar: Jar) -> bool:
        path = cache_dir / jar.path
        return path.is_file() and path.stat().st_size == jar.size and pooch.file_hash(str(path)) == jar.sha256

    jars = listed().jars
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return [jar for jar, good in zip(jars, pool.map(is_good, jars), strict=True) if not good]


def fetch_jars(mirror: str | None = None, cache_dir: Path = CACHE_DIR, *, retries: int = 2) -> list[Path]:
    """Make sure every listed jar is in the cache, fetching what is missing; show one progress bar for all.

    Args:
        mirror: base URL of a Maven repository to use instead of Maven Central.
        cache_dir: where the jars are kept.
        retries: further attempts per file, 1 s and then 2 s after a failure.

    Returns:
        The jars' paths, in the order of the list: the class path.

    Raises:
        DownloadFailed: the repository does not answer, or lacks a file.
        ChecksumMismatch: what it sent is not what was listed; nothing of it was kept.
        DiskFull: there is no room for what is missing.
    """
    missing = missing_jars(cache_dir)
    if missing:
        _fetch(missing, (mirror or MAVEN_CENTRAL).rstrip("/"), cache_dir, retries)
    return [cache_dir / jar.path for jar in listed().jars]


def _fetch(missing: Sequence[Jar], base_url: str, cache_dir: Path, retries: int) -> None:
    pooch.get_logger().setLevel("WARNING")  # its line per file would tear the progress bar
    cancelled = threading.Event()
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _check_room(missing, cache_dir)
        store = pooch.create(
            cache_dir,
            f"{base_url}/",
            registry={jar.path: f"sha256:{jar.sha256}" for jar in missing},
            retry_if_failed=retries,
        )
        with _shown(missing, base_url, cache_dir) as advance, ThreadPoolExecutor(_PARALLEL) as pool:
            downloads = {
                pool.submit(store.fetch, jar.path, downloader=_Download(jar, advance, cancelled)): jar
                for jar in missing
            }
            try:
                for download in as_completed(downloads):
                    jar = downloads[download]
                    download.result()
            except BaseException:
                cancelled.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except requests.RequestException as error:
        raise DownloadFailed(
            f"{base_url}/{jar.path} could not be fetched: {error}. The embedded Kafka needs {len(listed().jars)} files "
            "from there, once; what has been fetched is kept. Check the network or the proxy; or name a Maven mirror "
            "you can reach with CALLSCOPE_BROKER__MIRROR=<base URL>; or use a Kafka you have with "
            "CALLSCOPE_KAFKA=<host:port>."
        ) from error
    except ValueError as error:  # pooch's way to say that a hash differs
        raise ChecksumMismatch(
            f"{base_url}/{jar.path} is not the listed file (SHA-256 {jar.sha256}). What came was deleted. A proxy or a "
            "mirror may have sent a page of its own: fetch the address by hand to see it, or name another mirror "
            "with CALLSCOPE_BROKER__MIRROR=<base URL>."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(missing, cache_dir) from error
        raise BrokerError(f"The Kafka jars cannot be kept in {cache_dir}: {error}. Make it writable.") from error


def _check_room(missing: Sequence[Jar], cache_dir: Path) -> None:
    if shutil.disk_usage(cache_dir).free < sum(jar.size for jar in missing):
        raise _disk_full(missing, cache_dir)


def _disk_full(missing: Sequence[Jar], cache_dir: Path) -> DiskFull:
    return DiskFull(
        f"The embedded Kafka's jars need {_megabytes(sum(jar.size for jar in missing))} MB in {cache_dir}; "
        f"{_megabytes(shutil.disk_usage(cache_dir).free)} MB are free. Make room and try again."
    )


def _megabytes(size: int) -> int:
    return round(size / 1e6)


class _Cancelled(Exception):
    """Ends the other downloads once one has failed, or at Ctrl-C."""


class _Download:
    """A downloader as pooch takes it, for one jar: bounded by its size, reporting to the bar of all."""

    def __init__(self, jar: Jar, advance: Advance, cancelled: threading.Event) -> None:
        self._size = jar.size
        self._advance = advance
        self._cancelled = cancelled

    def __call__(self, url: str, output_file: str, caller: pooch.Pooch) -> None:
        received = 0
        try:
            with requests.get(url, stream=True, timeout=_TIMEOUT_S) as answer, Path(output_file).open("wb") as output:
                answer.raise_for_status()
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    if self._cancelled.is_set():
                        raise _Cancelled
                    if received + len(chunk) > self._size:
                        raise ValueError(f"{url} sends more than the listed {self._size} bytes")
                    output.write(chunk)
                    received += len(chunk)
                    self._advance(len(chunk))
        except BaseException:
            self._advance(-received)
            raise


@contextmanager
def _shown(missing: Sequence[Jar], base_url: str, cache_dir: Path) -> Iterator[Advance]:
    """One progress bar on a terminal, a line per quarter elsewhere; both on standard error."""
    total = sum(jar.size for jar in missing)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(
        f"Fetching Apache Kafka {listed().kafka_version} from {base_url}: {len(missing)} files, "
        f"{_megabytes(total)} MB, this once, to {cache_dir}"
    )
    if console.is_terminal:
        columns = (TextColumn("Kafka"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=total)
            yield lambda size: bar.update(task, advance=size)
        return
    lock = threading.Lock()
    received = quarters = 0

    def advance(size: int) -> None:
        nonlocal received, quarters
        with lock:
            received += size
            if received * 4 // total > quarters:
                quarters = received * 4 // total
                console.print(f"  {received * 100 // total} % ({_megabytes(received)} of {_megabytes(total)} MB)")

    yield advance
