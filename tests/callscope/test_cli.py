from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callscope.cli import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    "command", ["up", "demo", "send", "watch", "topics", "doctor", "export", "import", "replay", "digest", "eval"]
)
def test_every_command_is_in_the_help_and_has_its_own(command: str) -> None:
    assert f"  {command} " in run("--help").output
    told = run(command, "--help")
    assert told.exit_code == 0 and told.output.startswith(f"Usage: main {command}")


def test_a_file_that_is_not_audio(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    told = run("send", "notes.txt")
    assert told.exit_code == 1
    assert "notes.txt cannot be read as audio" in told.stderr


def test_no_system_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCOPE_SINK__PORT", "1")
    told = run("watch")
    assert told.exit_code == 1
    assert "Is `callscope up` running there?" in told.stderr


def test_a_taken_port_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("CALLSCOPE_INGEST__PORT", str(other.getsockname()[1]))
        told = run("up")
    assert told.exit_code == 1
    assert "is taken" in told.stderr and "CALLSCOPE_INGEST__PORT" in told.stderr


def test_a_misspelt_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCOPE_INGEST__PROT", "1")
    told = run("doctor")
    assert told.exit_code == 1
    assert "ingest.prot" in told.stderr


def test_doctor_says_how_to_mend_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCOPE_PROCESSORS__INFER__MODELS", '["/no/such/model"]')
    told = run("doctor")
    assert told.exit_code == 1
    assert "ok  Features" in told.output
    assert "no  Models" in told.output and "CALLSCOPE_PROCESSORS__INFER__MODELS" in told.output
