"""The page "Try your microphone": Chromium's fake microphone plays a WAV file by each of the three ways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from playwright.async_api import Browser, expect

from callscope.client.recording import Recording
from callscope.config import Settings
from callscope.supervisor import System
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from tests.conftest import headless
from tests.ingest.reading import records_of

pytestmark = [pytest.mark.integration, pytest.mark.browser]

SPOKEN_S = 6.0


@pytest.fixture(scope="module")
def spoken(demo_call: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of the demo's agent, mono, 48 kHz."""
    pcm = demo_call.pcm[: round(SPOKEN_S * demo_call.rate_hz), 1]
    path = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    soundfile.write(path, pcm, demo_call.rate_hz)
    return path


@pytest.fixture
async def speaking(spoken: Path) -> AsyncIterator[Browser]:
    """A Chromium whose microphone plays the file over and over, and whose pages may hear it."""
    async with headless(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={spoken}",
    ) as browser:
        yield browser


def loudness(pcm: NDArray[np.int16], hop: int = 1_600) -> NDArray[np.float64]:
    """Level of each 100 ms, dB; what survives every codec and any delay."""
    whole = pcm[: len(pcm) // hop * hop].reshape(-1, hop).astype(float)
    levels: NDArray[np.float64] = 10 * np.log10(np.mean(whole**2, axis=1) + 1.0)
    return levels


def likeness(reference: NDArray[np.int16], heard: NDArray[np.int16]) -> float:
    """The best correlation of the levels of what was heard with those of the file, played in a loop from anywhere."""
    best = 0.0
    looped = np.concatenate([reference, reference, reference])
    wanted = loudness(heard)
    for start in range(0, len(reference), 800):
        levels = loudness(looped[start : start + len(wanted) * 1_600])
        best = max(best, float(np.corrcoef(levels, wanted)[0, 1]))
    return best


@pytest.mark.parametrize("way", ["webrtc", "worklet", "recorder"])
async def test_ones_own_voice_comes_back_as_results(
    fused: System, kafka: Settings, speaking: Browser, spoken: Path, way: str
) -> None:
    page = await speaking.new_page(viewport={"width": 1100, "height": 800})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto(fused.addresses.dashboard + "microphone.html")
    await page.locator(f"input[value={way}]").check()
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#state")).to_have_attribute("data-state", "live", timeout=15_000)
    card = page.locator("#card .call")
    await expect(card).to_have_attribute("data-state", "running", timeout=10_000)
    await expect(card.locator("[data-speaking=true]")).to_be_visible(timeout=10_000)
    await expect(page.locator("#lines")).to_contain_text("speech ends", timeout=10_000)
    call_id = await card.get_attribute("data-call")
    assert call_id is not None
    if folder := os.environ.get("CALLSCOPE_TEST_SCREENSHOTS"):  # noqa: TID251  # about the test run, not a setting
        await page.screenshot(path=str(Path(folder) / f"microphone-{way}.png"))
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#state")).to_have_attribute("data-state", "ended", timeout=10_000)
    await expect(card).to_have_attribute("data-state", "ended", timeout=10_000)
    assert complaints == []

    events = [CallEvent.FromString(m.value()) for m in await asyncio.to_thread(records_of, kafka, CALL_EVENTS, call_id)]
    assert [CallEvent.Kind.Name(e.kind) for e in events if e.kind != CallEvent.GAP] == [
        "CALL_STARTED",
        "STREAM_STARTED",
        "STREAM_ENDED",
        "CALL_ENDED",
    ]
    assert events[-1].reason == "end"
    assert events[0].encoding == ("s16le" if way == "worklet" else "opus")
    frames = [
        AudioFrame.FromString(m.value()) for m in await asyncio.to_thread(records_of, kafka, AUDIO_FRAMES, call_id)
    ]
    assert [frame.seq for frame in frames] == list(range(len(frames))) and frames[-1].last
    for before, after in pairwise(frames):
        assert after.start == before.start + len(before.pcm) // 2 + after.gap_before
    heard = np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2")
    pcm, rate_hz = soundfile.read(spoken, dtype="int16")
    assert rate_hz == 16_000
    alike = likeness(pcm, heard[1_600:])
    print(f"{way}: {len(heard) / 16_000:.2f} s, levels correlate by {alike:.3f}")
    assert alike > 0.9
