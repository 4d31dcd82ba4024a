from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from callscope.errors import BadEvaluation, BadExport, BadReplay
from callscope.exchange import folder as layout
from callscope.replay.sources import FromExport, FromFiles, is_export
from callscope.topics import partition_of
from processors.records import AudioFrame

LEGS = ["customer", "agent"]


def write(path: Path, seconds: float, channels: int = 2) -> Path:
    path.parent.mkdir(exist_ok=True)
    samples = np.arange(round(seconds * 16_000) * channels).reshape(-1, channels) % 1_000
    soundfile.write(path, samples.astype(np.int16), 16_000)
    return path


def test_files_are_calls_in_their_partitions(tmp_path: Path) -> None:
    for name, seconds in (("one", 0.1), ("two", 0.2), ("three", 0.3)):
        write(tmp_path / f"{name}.wav", seconds)
    source = FromFiles([tmp_path], LEGS, 4)
    parts = source.parts()
    assert [part.number for part in parts] == sorted({partition_of(name, 4) for name in ("one", "two", "three")})
    for part in parts:
        taken = list(source.records(part, 0))
        assert [record.offset for record in taken] == list(range(part.records))
        assert {partition_of(record.call, 4) for record in taken} == {part.number}
        assert [record.offset for record in source.records(part, 7)] == list(range(7, part.records))
    assert sum(part.records for part in parts) == 2 * (5 + 10 + 15 + 3)


def test_legs_run_beside_one_another(tmp_path: Path) -> None:
    source = FromFiles([write(tmp_path / "one.wav", 0.06)], LEGS, 1)
    (part,) = source.parts()
    frames = [taken.envelope.record for taken in source.records(part, 0) if taken.envelope]
    told = [(f.start, f.stream.leg, f.last) for f in frames if isinstance(f, AudioFrame)]
    assert told == [(at, leg, at == 960) for at in (0, 320, 640, 960) for leg in ("agent", "customer")]


def test_files_that_cannot_be_calls(tmp_path: Path) -> None:
    with pytest.raises(BadReplay, match="is not there"):
        FromFiles([tmp_path / "no.wav"], LEGS, 1)
    one, other = write(tmp_path / "a" / "x.wav", 0.1), write(tmp_path / "b" / "x.wav", 0.1)
    with pytest.raises(BadReplay, match="would be calls of the same name"):
        FromFiles([one, other], LEGS, 1)
    with pytest.raises(BadEvaluation, match="has 3 channels, --legs names 2"):
        source = FromFiles([write(tmp_path / "c" / "y.wav", 0.1, channels=3)], LEGS, 1)
        list(source.records(source.parts()[0], 0))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadReplay, match=r"notes\.txt cannot be read as audio"):
        FromFiles([tmp_path / "notes.txt"], LEGS, 1).parts()


def test_an_export_stands_alone(tmp_path: Path) -> None:
    exported = tmp_path / "export"
    exported.mkdir()
    layout.write(exported, layout.Contents(partitions=1), {})
    file = write(tmp_path / "one.wav", 0.1)
    assert is_export([exported]) and not is_export([file])
    with pytest.raises(BadExport, match="replay it by itself"):
        is_export([exported, file])
    assert FromExport(exported).parts() == []
