from __future__ import annotations

import json
from pathlib import Path

import pytest

from callscope.errors import BadExport
from callscope.exchange import folder as layout
from callscope.exchange.folder import Contents, ExportedLeg
from callscope.topics import AUDIO_FRAMES

CONTENTS = Contents(
    {"c": {"agent": ExportedLeg(1.5, 3, 1, 0.2, True, "audio/c/agent.wav")}}, {"audio.frames": 3}, 1, 2, 8
)


def test_what_an_export_says_of_itself(tmp_path: Path) -> None:
    assert not layout.is_export(tmp_path)
    layout.write(tmp_path, CONTENTS, {"audio": "leg"})
    assert layout.is_export(tmp_path) and layout.read(tmp_path) == CONTENTS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "it has no export.json"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        (json.dumps({"format": "other"}), "its format is another one"),
        (json.dumps({"format": "callscope-export", "version": 9}), "by a later Callscope"),
        (json.dumps({"format": "callscope-export", "version": 1, "calls": {"c": {"a": {"x": 1}}}}), "cannot be read"),
    ],
)
def test_what_is_no_export(tmp_path: Path, text: str | None, complaint: str) -> None:
    if text is not None:
        (tmp_path / layout.MANIFEST).write_text(text)
    with pytest.raises(BadExport, match=complaint):
        layout.read(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = layout.records_file(tmp_path, AUDIO_FRAMES.name)
    path.parent.mkdir()
    path.write_bytes(b"PAR1 but not for long")
    with pytest.raises(BadExport, match=r"audio\.frames\.parquet is damaged"):
        list(layout.stored_records(tmp_path, AUDIO_FRAMES))
    with pytest.raises(BadExport, match="export with --results parquet"):
        list(layout.table_rows(tmp_path, "activity", ["leg"]))
