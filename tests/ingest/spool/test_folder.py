"""The spool's files: what gateways leave, and who takes it over."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.spool.folder import Found, Job, SpoolFolder
from ingest.spool.framing import HEADER_BYTES, Spooled, encode

FRAMES = [encode(Spooled("audio.frames", "call/leg", b"%d" % n, seq=n)) for n in range(4)]
SIZE = len(FRAMES[0])


def writing(*segments: tuple[int, int, list[bytes]]) -> Job:
    job = Job()
    for partition, number, frames in segments:
        job.writes.setdefault(partition, []).append((number, HEADER_BYTES, b"".join(frames)))
    return job


def left_by(root: Path, *segments: tuple[int, int, list[bytes]]) -> Path:
    """What a gateway leaves that ends."""
    folder = SpoolFolder(root)
    assert folder.open() == []
    done = folder.work(writing(*segments))
    assert done.error is None and done.written == {partition for partition, _, _ in segments}
    before = set(root.iterdir())
    folder.close()
    (mine,) = before
    return mine


def test_what_a_gateway_leaves_is_found_by_the_next_and_a_torn_end_is_cut(tmp_path: Path) -> None:
    mine = left_by(tmp_path, (0, 1, FRAMES[:3]), (0, 2, FRAMES[3:]), (5, 1, FRAMES))
    with (mine / "0000-00000002.spool").open("ab") as torn:
        torn.write(FRAMES[0][:-1])
    found = SpoolFolder(tmp_path).open()
    assert found == [
        Found(0, 1, HEADER_BYTES, HEADER_BYTES + 3 * SIZE, 3),
        Found(0, 2, HEADER_BYTES, HEADER_BYTES + SIZE, 1),
        Found(5, 1, HEADER_BYTES, HEADER_BYTES + 4 * SIZE, 4),
    ]
    assert (mine / "0000-00000002.spool").stat().st_size == HEADER_BYTES + SIZE


def test_what_kafka_has_is_not_found_again(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path)
    folder.work(writing((0, 1, FRAMES), (0, 2, FRAMES)))
    folder.work(Job(marks=[(0, 2, HEADER_BYTES + 3 * SIZE)], removes=[(0, 1)], sync=True))
    folder.close()
    assert SpoolFolder(tmp_path).open() == [Found(0, 2, HEADER_BYTES + 3 * SIZE, HEADER_BYTES + 4 * SIZE, 1)]


def test_one_gateway_takes_over_from_all_that_are_gone_and_from_none_that_runs(tmp_path: Path) -> None:
    running = SpoolFolder(tmp_path)
    running.work(writing((0, 1, FRAMES[:1])))
    others = [SpoolFolder(tmp_path), SpoolFolder(tmp_path)]
    for other in others:
        other.work(writing((0, 1, FRAMES[:2]), (3, 7, FRAMES[2:])))
    for other in others:
        other.close()
    heir = SpoolFolder(tmp_path)
    assert [(found.partition, found.number, found.records) for found in heir.open()] == [
        (0, 1, 2),
        (0, 2, 2),
        (3, 7, 2),
        (3, 8, 2),
    ]
    heir.work(Job(removes=[(0, 1), (0, 2), (3, 7), (3, 8)]))
    heir.close()
    assert len(list(tmp_path.iterdir())) == 1, "that of the gateway that runs"
    done = running.work(Job(reads=[(0, 1, HEADER_BYTES, 1_000)]))
    assert [record.seq for record, _ in done.read[0, 1][0]] == [0]
    running.close()


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "spool")
    assert folder.open() == []
    folder.close()
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(("left", "kept"), [(b"CSS", False), (b"something else that is longer", True)])
def test_a_file_that_is_no_segment_is_put_aside(tmp_path: Path, left: bytes, kept: bool) -> None:
    mine = left_by(tmp_path, (0, 1, FRAMES))
    (mine / "0000-00000002.spool").write_bytes(left)
    assert [found.number for found in SpoolFolder(tmp_path).open()] == [1]
    assert (mine / "0000-00000002.unreadable").exists() == kept
