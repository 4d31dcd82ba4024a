"""The simulators' commands, as they are typed."""

from pathlib import Path

import pytest
from click.testing import CliRunner

import callscope.demo
from callscope.cli import main

CALL = str(Path(callscope.demo.__file__).parent / "call.ogg")


@pytest.mark.parametrize(
    ("command", "option"), [("audiosocket", "--register"), ("chan-websocket", "--codec"), ("raw-l16", "--dialect")]
)
def test_help(command: str, option: str) -> None:
    result = CliRunner().invoke(main, ["simulate", command, "--help"])
    assert result.exit_code == 0
    assert option in result.output


@pytest.mark.parametrize("command", ["audiosocket", "chan-websocket", "raw-l16"])
def test_nobody_answers(command: str) -> None:
    where = {
        "audiosocket": ["--register", "http://127.0.0.1:9/asterisk/audiosocket"],
        "chan-websocket": ["--url", "ws://127.0.0.1:9/asterisk"],
        "raw-l16": ["--gateway", "ws://127.0.0.1:9"],
    }[command]
    result = CliRunner().invoke(main, ["simulate", command, CALL, *where])
    assert result.exit_code == 1
    assert "No gateway answers" in result.output
