"""A stage that is rebuilt from a mark and the audio since says, bit for bit, what the one before it would have said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.config import Detect as DetectConfig
from callscope.config import DetectorName
from processors.records import AudioFrame, Pcm, SpeechFrame, VoiceActivity
from processors.stages.detect import Detect
from processors.stages.detectors import SileroDetector, silero, webrtc
from processors.stages.detectors.silero import shipped_model
from processors.stages.marks import DetectMark
from tests.signals import STREAM, demo_leg, hush, join, records, voice

FRAME, SECOND = 320, 16_000
Result = VoiceActivity | SpeechFrame


@pytest.fixture(autouse=True, scope="module")
def soon_renewed() -> Iterator[None]:
    """Memories are renewed every second or so, as they would be in minutes of a call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silero, "RENEW_AFTER_HOPS", 32)
        patch.setattr(silero, "RENEW_ANYWAY_AFTER_HOPS", 60)
        patch.setattr(silero, "WARM_UP_HOPS", 16)
        patch.setattr(silero, "SILENT_HOPS", 4)
        patch.setattr(webrtc, "RENEW_AFTER_S", 1.0)
        patch.setattr(webrtc, "RENEW_ANYWAY_AFTER_S", 2.0)
        patch.setattr(webrtc, "WARM_UP_S", 0.5)
        yield


def with_holes(frames: Sequence[AudioFrame], lost: frozenset[int]) -> list[AudioFrame]:
    """Without some of them, which the next one says."""
    out: list[AudioFrame] = []
    gap = 0
    for n, frame in enumerate(frames):
        if n in lost and not frame.last:
            gap += len(frame.pcm)
        else:
            out.append(replace(frame, seq=len(out), gap_before=gap))
            gap = 0
    return out


def made(config: DetectConfig) -> Detect:
    return Detect(STREAM, config)


def whole(config: DetectConfig, frames: Sequence[AudioFrame]) -> list[Result]:
    stage = made(config)
    return [out for frame in frames for out in stage.step(frame)]


def marked(config: DetectConfig, frames: Sequence[AudioFrame]) -> tuple[list[Result], DetectMark | None]:
    stage = made(config)
    return [out for frame in frames for out in stage.step(frame)], stage.mark()


def reread(config: DetectConfig, mark: DetectMark, frames: Sequence[AudioFrame]) -> list[Result]:
    """From the record on that holds the first audio that is needed."""
    stage = made(config)
    assert stage.rebuild(mark)
    first = max((n for n, frame in enumerate(frames) if frame.start <= mark.audio_from), default=0)
    return [out for frame in frames[first:] for out in stage.step(frame)]


def activities(results: Sequence[Result]) -> list[VoiceActivity]:
    return [r for r in results if isinstance(r, VoiceActivity)]


def speech(results: Sequence[Result]) -> dict[tuple[int, bool], bytes]:
    """By sample: what each segment holds, and whether it was lost; and where segments end."""
    found: dict[tuple[int, bool], bytes] = {}
    ends = {}
    for r in results:
        if isinstance(r, SpeechFrame):
            at = r.segment + len(found.get((r.segment, False), b"")) // 2
            assert r.start == at, "contiguous"
            found[r.segment, False] = found.get((r.segment, False), b"") + r.pcm.tobytes()
            found[r.segment, True] = found.get((r.segment, True), b"") + bytes([r.lost]) * len(r.pcm)
            if r.last:
                ends[r.segment] = r.start + len(r.pcm)
    return {**found, (-1, False): repr(sorted(ends.items())).encode()}


AUDIO = join(
    demo_leg(1)[: 4 * SECOND], hush(1.2), voice(1.5), hush(0.4), voice(1.0, seed=2), hush(1.0), demo_leg(1)[:SECOND]
)
FRAMES = len(AUDIO) // FRAME


@pytest.mark.parametrize("detector", ["silero", "webrtc", "energy"])
@settings(max_examples=40)
@given(
    cuts=st.lists(st.integers(1, FRAMES - 1), max_size=FRAMES // 2),
    lost=st.frozensets(st.integers(1, FRAMES - 2), max_size=6),
    marked_at=st.floats(0, 1),
    max_segment_s=st.sampled_from([1.0, 30.0]),
)
def test_wherever_it_is_cut_the_rest_is_the_same(
    detector: DetectorName, cuts: list[int], lost: frozenset[int], marked_at: float, max_segment_s: float
) -> None:
    config = DetectConfig(detector=detector, max_segment_s=max_segment_s)
    frames = with_holes(records(AUDIO, cuts), lost)
    number = round(marked_at * (len(frames) - 1))
    before, mark = marked(config, frames[:number])
    if mark is None:
        assert number == 0
        return
    assert mark.audio_from <= mark.decided_to
    expected = whole(config, frames)
    again = reread(config, mark, frames)
    assert activities(before) + activities(again) == activities(expected)

    segments = speech(expected)
    if mark.segment is not None:
        assert any(isinstance(r, SpeechFrame) and r.start == r.segment == mark.segment for r in again), "from its start"
    told_before = {s: audio for s, audio in speech(before).items() if s[0] not in (mark.segment, -1)}
    told_again = {s: audio for s, audio in speech(again).items() if s[0] != -1}
    assert not told_before.keys() & told_again.keys()
    assert {**told_before, **told_again} == {s: audio for s, audio in segments.items() if s[0] != -1}


@settings(max_examples=15)
@given(st.lists(st.integers(2, FRAMES - 1), min_size=2, max_size=6, unique=True))
def test_one_that_was_rebuilt_can_be_rebuilt_again(takeovers: list[int]) -> None:
    """Also while it is on the way to its mark."""
    config = DetectConfig()
    frames = records(AUDIO)
    stage, told, at = made(config), list[Result](), 0
    for until in sorted(takeovers):
        for frame in frames[at:until]:
            told += stage.step(frame)
        mark = stage.mark()
        assert mark is not None
        stage = made(config)
        assert stage.rebuild(mark)
        at = mark.audio_from // FRAME
    for frame in frames[at:]:
        told += stage.step(frame)
    assert list(dict.fromkeys(activities(told))) == activities(whole(config, frames))


def test_little_audio_is_needed_again() -> None:
    """As much as the memory is old, whatever was said: no more than that of one that waits for a silence in vain."""
    loud: Pcm = np.tile(AUDIO[: 4 * SECOND], 3)
    stage = made(DetectConfig())
    for frame in records(loud, last=False):
        stage.step(frame)
        mark = stage.mark()
        assert mark is not None
        assert mark.decided_to - mark.audio_from <= (60 + 16 + 1) * 512 or mark.since == mark.audio_from


def test_a_mark_of_another_detector_is_refused() -> None:
    _, mark = marked(DetectConfig(), records(AUDIO[:SECOND], last=False))
    assert mark is not None
    for other in (DetectConfig(detector="energy"), DetectConfig(detector="webrtc")):
        assert not made(other).rebuild(mark)
    assert not made(DetectConfig()).rebuild(replace(mark, held_from=mark.held_from + 1))
    assert not made(DetectConfig()).rebuild(replace(mark, detector_from=mark.decided_to + 512))


def test_a_memory_that_has_taken_over_is_rebuilt_to_the_bit() -> None:
    detector = SileroDetector(shipped_model())
    pcm = AUDIO[: len(AUDIO) // 512 * 512]
    for at in range(0, len(pcm) // 2 // 512 * 512, 512):
        detector.probabilities(pcm[at : at + 512])
    at += 512
    birth = detector.birth()
    assert birth.primed and birth.age_hops * 512 < at
    other = SileroDetector(shipped_model())
    begin = at - birth.age_hops * 512
    other.begin(birth, pcm[begin - 512 : begin])
    other.probabilities(pcm[begin:at])
    feed = partial(np.array_equal, other.probabilities(pcm[at:]))
    assert feed(detector.probabilities(pcm[at:]))
