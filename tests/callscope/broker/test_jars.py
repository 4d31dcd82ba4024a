import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from callscope.broker import jars
from callscope.broker.jars import Jar, JarList, fetch_jars, listed, missing_jars
from callscope.broker.ports import free_ports
from callscope.errors import ChecksumMismatch, DiskFull, DownloadFailed

GOOD = b"jar " * 1000


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


@contextmanager
def mirror(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A Maven mirror on loopback, and the list of paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/maven", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def two_jars(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A list of two jars instead of the real one; what a good mirror serves for it."""
    content = {"org/a/a.jar": GOOD, "org/b/b.jar": GOOD[::-1]}
    entries = tuple(Jar(path, len(data), hashlib.sha256(data).hexdigest(), "MIT") for path, data in content.items())
    monkeypatch.setattr(jars, "listed", lambda: JarList("0.0", entries))
    return {f"/maven/{path}": data for path, data in content.items()}


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_list_is_one_consistent_kafka() -> None:
    every = listed()
    names = {jar.path.rpartition("/")[2] for jar in every.jars}
    assert len(names) == len(every.jars) == 46
    assert f"kafka-clients-{every.kafka_version}.jar" in names
    assert {name for name in names if name.startswith("kafka")} == {
        name for name in names if name.startswith("kafka") and name.endswith(f"-{every.kafka_version}.jar")
    }
    assert all(len(jar.sha256) == 64 and jar.licence for jar in every.jars)
    assert 40e6 < sum(jar.size for jar in every.jars) < 50e6


def test_fetches_once_and_says_so_on_standard_error(
    two_jars: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mirror(two_jars) as (url, asked):
        paths = fetch_jars(url, tmp_path)
        assert [path.read_bytes() for path in paths] == [GOOD, GOOD[::-1]]
        assert fetch_jars(url + "/", tmp_path) == paths
    assert sorted(asked) == sorted(two_jars)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Fetching Apache Kafka")
    assert "100 %" in shown.err


def test_a_cache_serves_as_a_mirror_path_by_path(two_jars: dict[str, bytes], tmp_path: Path) -> None:
    with mirror(two_jars) as (url, _):
        fetch_jars(url, tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in files_in(tmp_path)) == ["org/a/a.jar", "org/b/b.jar"]


def test_a_damaged_file_in_the_cache_is_fetched_again(two_jars: dict[str, bytes], tmp_path: Path) -> None:
    with mirror(two_jars) as (url, asked):
        first, _ = fetch_jars(url, tmp_path)
        asked.clear()
        first.write_bytes(GOOD.replace(b"j", b"J"))
        assert [jar.path for jar in missing_jars(tmp_path)] == ["org/a/a.jar"]
        fetch_jars(url, tmp_path)
        assert asked == ["/maven/org/a/a.jar"]
    assert first.read_bytes() == GOOD


@pytest.mark.parametrize("wrong", [b"<html>Please log in</html>", GOOD.replace(b"j", b"J"), GOOD * 100])
def test_another_file_than_listed_is_deleted(two_jars: dict[str, bytes], tmp_path: Path, wrong: bytes) -> None:
    with mirror(two_jars | {"/maven/org/a/a.jar": wrong}) as (url, _), pytest.raises(ChecksumMismatch) as caught:
        fetch_jars(url, tmp_path, retries=0)
    assert "org/a/a.jar is not the listed file" in str(caught.value)
    assert "deleted" in str(caught.value)
    assert "a.jar" not in {path.name for path in files_in(tmp_path)}
    assert all(path.suffix == ".jar" for path in files_in(tmp_path)), "no temporary file is left"


def test_no_network(two_jars: dict[str, bytes], tmp_path: Path) -> None:
    closed = free_ports(1)[0]
    with pytest.raises(DownloadFailed) as caught:
        fetch_jars(f"http://127.0.0.1:{closed}", tmp_path, retries=0)
    assert caught.value.retriable
    for way_out in ("CALLSCOPE_BROKER__MIRROR", "CALLSCOPE_KAFKA"):
        assert way_out in str(caught.value)
    assert files_in(tmp_path) == []


def test_a_mirror_that_lacks_a_file_is_named_and_the_rest_is_kept(two_jars: dict[str, bytes], tmp_path: Path) -> None:
    del two_jars["/maven/org/b/b.jar"]
    with mirror(two_jars) as (url, _):
        with pytest.raises(DownloadFailed, match=r"org/b/b\.jar could not be fetched: 404"):
            fetch_jars(url, tmp_path, retries=0)


def test_a_failure_is_tried_again(two_jars: dict[str, bytes], tmp_path: Path) -> None:
    missing = two_jars.pop("/maven/org/b/b.jar")
    with mirror(two_jars) as (url, asked):
        timer = threading.Timer(0.3, two_jars.update, [{"/maven/org/b/b.jar": missing}])
        timer.start()
        fetch_jars(url, tmp_path, retries=1)
        timer.join()
    assert asked.count("/maven/org/b/b.jar") == 2


def test_disk_full_before_fetching(two_jars: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: DiskUsage(10, 10, 0))
    with mirror(two_jars) as (url, asked), pytest.raises(DiskFull, match="0 MB are free"):
        fetch_jars(url, tmp_path)
    assert asked == []


def test_progress_on_a_terminal_is_one_bar(
    two_jars: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with mirror(two_jars) as (url, _):
        fetch_jars(url, tmp_path)
    assert "8.0/8.0 kB" in capsys.readouterr().err
