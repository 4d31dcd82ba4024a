import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from callscope.broker import datadir
from callscope.broker.datadir import DataDir
from callscope.errors import DataFromAnotherVersion, DataInUse, DiskFull


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "kafka")
    made.create()
    return made


def test_only_this_user_may_look_in(directory: DataDir) -> None:
    assert stat.S_IMODE(directory.root.stat().st_mode) == 0o700


def test_a_second_owner_is_told_who_has_it_and_what_to_do(directory: DataDir) -> None:
    lock = directory.lock(0)
    directory.note_owner(lock, 12345)
    with pytest.raises(DataInUse) as caught:
        directory.lock(60)
    for hint in (str(os.getpid()), "CALLSCOPE_KAFKA=127.0.0.1:12345", "CALLSCOPE_BROKER__DATA_DIR"):
        assert hint in str(caught.value)
    os.close(lock)
    os.close(directory.lock(0))


def test_the_lock_of_a_dead_process_does_not_bind(directory: DataDir) -> None:
    script = (
        "import sys; from pathlib import Path; from callscope.broker.datadir import DataDir;"
        "DataDir(Path(sys.argv[1])).lock(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(directory.root)], check=True)
    os.close(directory.lock(0))


def test_a_broker_whose_parent_died_is_waited_for_but_not_for_ever(directory: DataDir) -> None:
    lock = directory.lock(0)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    os.pwrite(lock, f"{gone.pid} 9092".encode().ljust(40), 0)
    with pytest.raises(DataInUse):
        directory.lock(0.3)
    os.close(lock)


def test_a_new_directory_becomes_complete_in_one_step(directory: DataDir) -> None:
    assert directory.is_new("4.1.1")
    directory.unfinished.mkdir()
    assert directory.is_new("4.1.1")
    directory.finish_format("4.1.1")
    assert not directory.is_new("4.1.1")
    assert not directory.unfinished.exists()


@pytest.mark.parametrize(("marker", "said"), [("3.9.0\n", "Kafka 3.9.0"), (None, "an unknown version")])
def test_records_of_another_kafka_are_left_alone(directory: DataDir, marker: str | None, said: str) -> None:
    directory.data.mkdir()
    if marker:
        directory.version_file.write_text(marker)
    with pytest.raises(DataFromAnotherVersion, match=said) as caught:
        directory.is_new("4.1.1")
    assert "4.1.1" in str(caught.value)
    assert "CALLSCOPE_BROKER__DATA_DIR" in str(caught.value)


def test_disk_full_says_how_much_is_free(directory: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: DiskUsage(10**9, 10**9 - 42_000_000, 42_000_000))
    with pytest.raises(DiskFull, match=r"at least 500 MB; 42 MB are free"):
        directory.check_room(datadir.NEEDED_BYTES)
    directory.check_room(40_000_000)


def test_the_log_is_of_this_start_alone(directory: DataDir) -> None:
    directory.log.write_text("old\n")
    directory.console.write_text("old console\n")
    directory.keep_previous_log()
    assert directory.log_text() == ""
    directory.log.write_text("new\n")
    directory.console.write_text("console\n")
    assert directory.log_text() == "new\nconsole\n"
    assert directory.log.with_name("kafka.previous.log").read_text() == "old\n"
