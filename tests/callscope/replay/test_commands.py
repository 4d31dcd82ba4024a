from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from callscope.cli import main
from tests.signals import demo_leg, hush


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLSCOPE_KAFKA", "127.0.0.1:1")  # nobody is there, and nobody is asked


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, [*arguments, "--state", "runs"])


def test_files_into_a_folder_without_any_broker(tmp_path: Path) -> None:
    """Into a folder and nowhere, with the same digest; and the folder has it too."""
    for name, seconds in (("one", 3), ("two", 2)):
        legs = [demo_leg(1)[: seconds * 16_000], hush(seconds)]
        soundfile.write(tmp_path / f"{name}.wav", np.stack(legs, axis=1), 16_000)
    told = run("replay", "--to", "folder", "--folder", "out", "--run", "first", "one.wav", "two.wav")
    assert told.exit_code == 0, told.output
    assert "run first: 2 calls, 4 legs, 10 s of audio" in told.output and "results: " in told.output
    digest = re.findall(r"^digest ([0-9a-f]{64})$", told.output, re.MULTILINE)
    assert len(digest) == 1
    assert f"digest {digest[0]}  4 streams\nthe same as run first" in run("digest", "out", "--as", "first").output
    assert json.loads((tmp_path / "out" / "export.json").read_text())["calls"].keys() == {"one", "two"}
    again = run("replay", "--to", "none", "--workers", "1", "one.wav", "two.wav")
    assert f"digest {digest[0]}" in again.output and "results:" not in again.output
    assert "1 of 2 streams" not in again.output
    other = run("replay", "--to", "none", "--run", "other", "--legs", "customer,colleague", "one.wav")
    assert other.exit_code == 0
    differs = run("digest", "out", "--as", "other")
    assert differs.exit_code == 1 and "1 of 2 streams differ from run other: one/colleague" in differs.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "folder"], "--to folder and --folder go together"),
        (["--folder", "x"], "--to folder and --folder go together"),
        (["--call", "c", "one.wav"], "Of audio files name those that you want"),
        (["--resume", "r", "--speed", "1", "--call", "c"], "--call, --speed cannot go with --resume"),
        (["--since", "yesterday"], "is not a time such as"),
        (["--workers", "0"], "not in the range"),
        (["nothing.wav"], "does not exist"),
    ],
)
def test_what_does_not_go_together(arguments: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "one.wav").write_text("")
    told = run("replay", *arguments)
    assert told.exit_code == 2 and says in told.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replay", "--resume", "r"], "holds no run r. There are none."),
        (["replay", "--run", "a/b"], "is no id of a run"),
        (["digest", "--as", "r"], "holds no run r. There are none."),
        (["digest", "."], "is no whole export"),
    ],
)
def test_what_is_not_there(arguments: list[str], says: str) -> None:
    told = run(*arguments)
    assert told.exit_code == 1 and says in told.stderr
