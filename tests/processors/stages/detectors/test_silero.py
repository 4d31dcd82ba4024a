from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from callscope.errors import ModelError
from processors.records import Pcm
from processors.stages.detectors import SileroDetector, silero
from processors.stages.detectors.silero import FILES, FOLDER, HOPS, SileroModel, shipped_model
from tests.signals import demo_leg, hush

HOP = 512
SECOND = 16_000


def judged(pcm: Pcm, *, renew: bool = True) -> NDArray[np.float64]:
    detector = SileroDetector(shipped_model(), renew=renew)
    return detector.probabilities(pcm[: len(pcm) // HOP * HOP])


def narrow(pcm: Pcm) -> Pcm:
    return np.asarray(soxr.resample(pcm.astype(np.float64), 16_000, 8_000).round(), np.int16)


def test_hears_a_voice_and_not_a_quiet_line() -> None:
    heard = judged(demo_leg(1)[: 5 * SECOND])
    assert heard[:15].max() < 0.1
    assert heard[25:40].min() > 0.5


def silero_s_own_way(pcm: Pcm, rate_hz: int) -> NDArray[np.float64]:
    """The file from Silero, run one hop after another as `OnnxWrapper` of silero-vad 6.2 does."""
    session = ort.InferenceSession(FOLDER / "silero_vad.onnx", providers=["CPUExecutionProvider"])
    hop, context = HOPS[rate_hz]
    audio = np.concatenate((np.zeros(context, np.int16), pcm)).astype(np.float32) / 32_768
    state = np.zeros((2, 1, 128), np.float32)
    out = []
    for at in range(0, len(pcm) - hop + 1, hop):
        fed = {"input": audio[None, at : at + context + hop], "state": state, "sr": np.array(rate_hz, np.int64)}
        found, state = session.run(None, fed)
        out.append(float(found[0, 0]))
    return np.array(out)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_gives_what_silero_s_own_file_and_wrapper_give(rate_hz: int) -> None:
    """Context, state and scaling are right, and the network that was rewritten for batches is the same one."""
    pcm = demo_leg(0)[5 * SECOND : 17 * SECOND]
    pcm = pcm if rate_hz == 16_000 else narrow(pcm)
    pcm = pcm[: len(pcm) // HOPS[rate_hz][0] * HOPS[rate_hz][0]]
    expected = silero_s_own_way(pcm, rate_hz)
    found = SileroDetector(shipped_model(rate_hz), renew=False).probabilities(pcm)
    assert np.ptp(expected) > 0.9
    assert np.abs(found - expected).max() < 1e-4


def test_at_8_khz_it_hears_the_same() -> None:
    pcm = demo_leg(1)[: 5 * SECOND]
    low = narrow(pcm)
    detector = SileroDetector(shipped_model(8_000))
    assert (detector.hop, detector.context) == (256, 32)
    at_8, at_16 = detector.probabilities(low[: len(low) // 256 * 256]), judged(pcm)
    assert ((at_8 >= 0.5) == (at_16 >= 0.5)).mean() > 0.9


@settings(max_examples=15)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_portions_leave_no_trace(portions: list[int]) -> None:
    pcm = demo_leg(1)[: sum(portions) * HOP]
    detector, at, parts = SileroDetector(shipped_model()), 0, []
    for portion in portions:
        parts.append(detector.probabilities(pcm[at : at + portion * HOP]))
        at += portion * HOP
    assert np.concatenate(parts).tobytes() == judged(pcm).tobytes()


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10), st.integers(1, 30)), min_size=1, max_size=80))
def test_any_company_gives_the_same_bits(streams: list[tuple[int, int, int]]) -> None:
    model = shipped_model()
    audio = [demo_leg(leg)[second * SECOND :][: hops * HOP] for leg, second, hops in streams]
    together = model.judge([SileroDetector(model) for _ in audio], audio)
    for pcm, found in zip(audio, together, strict=True):
        assert found.tobytes() == judged(pcm).tobytes()


def test_this_machine_gives_the_same_bits_in_batches() -> None:
    assert shipped_model().batches
    assert shipped_model(8_000).batches


def test_where_it_did_not_streams_would_be_run_alone() -> None:
    name, sha256 = FILES[16_000]
    model = SileroModel(16_000, FOLDER / name, sha256)
    model.batches = False
    audio = [demo_leg(1)[second * SECOND :][: 20 * HOP] for second in range(3)]
    alone = model.judge([SileroDetector(model) for _ in audio], audio)
    assert [found.tobytes() for found in alone] == [judged(pcm).tobytes() for pcm in audio]


def test_a_reset_forgets() -> None:
    pcm = demo_leg(1)[: 50 * HOP]
    detector = SileroDetector(shipped_model())
    first = detector.probabilities(pcm)
    detector.reset()
    assert detector.probabilities(pcm).tobytes() == first.tobytes()


def test_after_a_long_noisy_silence_speech_is_heard_as_after_a_short_one() -> None:
    speech = demo_leg(1)[: 5 * SECOND]
    noise = np.random.default_rng(3).normal(0, 300, 125 * SECOND).round()

    def share(silence_s: int, *, renew: bool) -> float:
        """Of the speech that is found in noise after that much noise alone."""
        loud = np.concatenate((np.zeros(silence_s * SECOND), speech * 0.2)) + noise[: silence_s * SECOND + len(speech)]
        return float((judged(loud.astype(np.int16), renew=renew)[-len(speech) // HOP :] >= 0.5).mean())

    soon = share(4, renew=True)
    assert share(4, renew=False) == soon
    assert share(120, renew=True) > 0.9 * soon


def is_renewing(detector: SileroDetector) -> bool:
    return detector.young is not None


def test_renewal_goes_by_media_time_and_waits_for_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = SileroDetector(shipped_model())
    detector.probabilities(hush(11)[: 320 * HOP])
    assert is_renewing(detector)
    detector.probabilities(hush(11)[: silero.WARM_UP_HOPS * HOP])
    assert not is_renewing(detector)

    monkeypatch.setattr(silero, "SILENT_BELOW", -1.0)  # no hop is silent
    detector = SileroDetector(shipped_model())
    detector.probabilities(hush(60)[: (silero.RENEW_ANYWAY_AFTER_HOPS - 1) * HOP])
    assert not is_renewing(detector)
    detector.probabilities(hush(1)[:HOP])
    assert is_renewing(detector)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_takes_no_audio(rate_hz: int) -> None:
    detector = SileroDetector(shipped_model(rate_hz))
    assert detector.hop == HOPS[rate_hz][0]
    assert len(detector.probabilities(np.zeros(0, np.int16))) == 0


def test_a_file_that_is_missing_or_not_the_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        SileroModel(16_000, tmp_path / "gone.onnx", "")
    other = tmp_path / "other.onnx"
    other.write_bytes(b"something else")
    with pytest.raises(ModelError, match="SHA-256"):
        SileroModel(16_000, other, FILES[16_000][1])
    with pytest.raises(ModelError, match="does not run"):
        SileroModel(16_000, other, hashlib.sha256(b"something else").hexdigest())
