"""The stages behind one another, as the topology runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import opensmile
import pytest
import soundfile
import soxr

from callscope.config import Detect as DetectConfig
from callscope.config import Extract as ExtractConfig
from processors.records import FeatureWindow, Insight, Pcm, SpeechFrame, WindowKind
from processors.stages.detect import Detect
from processors.stages.extract import Extract
from processors.stages.infer import Infer, Policy
from processors.stages.model import load_models
from processors.stages.opensmile_engine import OpenSmilePool
from tests.signals import STREAM, hush, join, records, voice

CALL = Path(__file__).parents[4] / "shared" / "data" / "calls" / "auto_repairs_40.wav"
ENGINES = OpenSmilePool()


def analyse(pcm: Pcm) -> tuple[dict[int, Pcm], list[FeatureWindow], list[Insight]]:
    detect, extract = Detect(STREAM, DetectConfig(detector="webrtc")), Extract(STREAM, ExtractConfig(), ENGINES)
    infer = Infer(load_models(["arousal"]), Policy())
    speech: dict[int, list[Pcm]] = {}
    windows: list[FeatureWindow] = []
    insights: list[Insight] = []
    for frame in records(pcm):
        for result in detect.step(frame):
            if isinstance(result, SpeechFrame):
                speech.setdefault(result.segment, []).append(result.pcm)
                fresh = extract.step(result)
                windows += fresh
                insights += [insight for found in infer.step_many(fresh) for insight in found]
    return {segment: np.concatenate(parts) for segment, parts in speech.items()}, windows, insights


def assert_features_are_those_of_batch(speech: dict[int, Pcm], windows: list[FeatureWindow]) -> None:
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    for segment, pcm in speech.items():
        ours = np.concatenate([w.lld for w in windows if w.segment == segment])
        batch = smile.process_signal(pcm.astype(np.float32) / 32_768, 16_000).to_numpy()
        assert np.array_equal(ours, batch)


def test_features_of_detected_speech_are_those_of_batch_on_that_speech() -> None:
    pcm = join(hush(0.5), voice(1.2), hush(0.4), voice(0.8, seed=1), hush(1.0), voice(1.0, seed=2, f0_hz=200), hush(1))
    speech, windows, _ = analyse(pcm)
    assert len(speech) == 2
    assert_features_are_those_of_batch(speech, windows)
    utterances = [w for w in windows if w.kind is WindowKind.UTTERANCE]
    assert [(u.segment, u.duration) for u in utterances] == [(s, len(audio)) for s, audio in speech.items()]


def test_arousal_rises_when_a_voice_is_raised() -> None:
    calm = [part for seed in range(6) for part in (voice(1.5, seed=seed, peak=4_000), hush(1.0))]
    raised = voice(1.5, seed=9, f0_hz=190, peak=20_000, effort=1.8)
    _, _, insights = analyse(join(*calm, raised, hush(1.0)))
    final = [insight.outputs[0] for insight in insights if insight.is_final]
    assert len(final) == 7
    assert "of 5.0 s of voiced speech heard" in final[0].unknown_because
    usual, high = final[5].value, final[6].value
    assert usual is not None
    assert high is not None
    assert 0.4 < usual < 0.6
    assert high > 0.75


@pytest.mark.skipif(not CALL.exists(), reason="the recordings are not on this machine")
def test_a_real_call() -> None:
    audio, rate_hz = soundfile.read(CALL, dtype="int16", always_2d=True, frames=8_000 * 60)
    pcm = join(soxr.resample(audio[:, 0], rate_hz, 16_000))
    speech, windows, insights = analyse(pcm)
    assert len(speech) > 5
    assert_features_are_those_of_batch(speech, windows)
    known = [i.outputs[0].value for i in insights if i.outputs[0].value is not None]
    assert known
    assert all(0 <= value <= 1 for value in known)
