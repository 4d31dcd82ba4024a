"""`callscope simulate audiohook` against a gateway in this process."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from callscope.cli import main
from callscope.config import AudioHookKey
from tests.ingest.gateways.audiohook_serving import count_of, gate

SECRET = base64.b64encode(bytes(range(32))).decode()
KEYS = (AudioHookKey(api_key="key-1", client_secret=SECRET),)
CONVERSATION = "44444444-4444-4444-8444-444444444444"


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros((8_000, 2), np.int16), 8_000)
    return str(path)


async def simulate(url: str, *arguments: str) -> Result:
    given = ["simulate", "audiohook", "--url", url, *arguments]
    return await asyncio.to_thread(CliRunner().invoke, main, given)


async def test_a_recording_with_holes_arrives_signed(recording: str) -> None:
    async with gate(audiohook={"keys": KEYS}) as gateway:
        told = await simulate(
            gateway.url,
            recording,
            *("--api-key", "key-1", "--client-secret", SECRET, "--conversation", CONVERSATION),
            *("--speed", "0", "--pause", "0.2:0.3", "--discard", "0.6:0.1"),
        )
        assert told.exit_code == 0, told.stderr
        assert told.output == f"{CONVERSATION}: 1.00 s, external and internal taken\n"
        for leg in ("customer", "agent"):
            records = [p.record for p in gateway.publisher.of(f"{CONVERSATION}/{leg}")]
            assert [r.gap_before for r in records if r.gap_before] == [4_800, 1_600]
            assert records[-1].end == 16_000


async def test_in_real_time_it_pings(recording: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros((10_400, 1), np.int16), 8_000)
    async with gate() as gateway:
        told = await simulate(gateway.url, str(tmp_path / "long.wav"))
        assert told.exit_code == 0, told.stderr
        assert "1.30 s, external taken" in told.output
        assert "pongs came within" in told.output


async def test_the_key_that_is_configured_here_is_taken(
    recording: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "callscope.toml").write_text(
        f'[[ingest.audiohook.keys]]\napi_key = "key-1"\nclient_secret = "{SECRET}"\n'
    )
    async with gate(audiohook={"keys": KEYS}) as gateway:
        told = await simulate(gateway.url, recording, "--speed", "0")
        assert told.exit_code == 0, told.stderr


async def test_a_probe() -> None:
    before = count_of("callscope_ingest_probes_total", source="audiohook")
    async with gate() as gateway:
        told = await simulate(gateway.url, "--probe")
        assert told.output == "The connection is good.\n"
    assert count_of("callscope_ingest_probes_total", source="audiohook") == before + 1


async def test_refusals_say_why(recording: str) -> None:
    async with gate(audiohook={"keys": KEYS}) as gateway:
        told = await simulate(gateway.url, recording, "--api-key", "key-2")
        assert told.exit_code == 1
        assert "HTTP 401" in told.stderr
    told = await simulate(gateway.url, recording)
    assert "Is `callscope up` running there?" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Name a FILE"),
        (["--pause", "8"], "AT:SECONDS"),
        (["--client-secret", "!"], "Base64"),
    ],
)
async def test_what_makes_no_sense_is_told(recording: str, arguments: list[str], says: str) -> None:
    told = await simulate("ws://127.0.0.1:1/audiohook", *([recording, *arguments] if arguments else []))
    assert told.exit_code == 2
    assert says in told.stderr
