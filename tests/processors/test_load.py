"""What a worker leaves out when it is late, and what it says of that."""

from __future__ import annotations

from collections.abc import Sequence

from callscope.config import Overload, load
from callscope.streams import StreamId
from processors import wire
from processors.app import build_pipeline
from processors.records import (
    AudioFrame,
    Envelope,
    FeatureWindow,
    Insight,
    Ledger,
    SpeechFrame,
    VoiceActivity,
    WindowKind,
)
from processors.topology import Pipeline
from schemas.v1.status_pb2 import WorkerStatus
from tests.signals import hush, join, voice

SECOND_NS = 1_000_000_000
STREAM = StreamId("c", "customer")


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


class Worker:
    """A pipeline that is given 20 ms of audio at a time, each so late as the test says."""

    def __init__(self, stage: str | None = None) -> None:
        self.clock = Clock()
        self.told: list[WorkerStatus] = []
        quick = {"lag_ms": 120, "calm_ms": 80, "rise_s": 0.25}
        settings = load(
            processors={"detect": {"detector": "energy"}, "overload": quick}  # for energy a machine's voice is one, too
        )
        self.pipeline: Pipeline = build_pipeline(settings, self.clock, stage=stage, tell=self.told.append)

    def work(self, frames: Sequence[AudioFrame], late_ms: float) -> list[Envelope]:
        results = []
        for frame in frames:
            self.clock.now_ns += 20_000_000
            envelopes = [Envelope(frame, Ledger(published_ns=self.clock.now_ns - int(late_ms * 1e6)))]
            self.pipeline.load.observe(envelopes)
            results += self.pipeline(envelopes)
        return results

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now_ns += SECOND_NS
            self.pipeline.load.beat()


def speech(*seconds: float) -> list[AudioFrame]:
    """Utterances of those lengths, with pauses that end a segment."""
    pcm = join(hush(0.5), *(part for length in seconds for part in (voice(length), hush(1.5))))
    count = len(pcm) // 320
    return [AudioFrame(STREAM, n, n * 320, pcm[n * 320 : n * 320 + 320], last=n == count - 1) for n in range(count)]


def of(results: Sequence[Envelope], kind: type) -> list[bytes]:
    return [wire.encode(Envelope(envelope.record)) for envelope in results if isinstance(envelope.record, kind)]


def windows(results: Sequence[Envelope], kind: WindowKind) -> list[FeatureWindow]:
    return [e.record for e in results if isinstance(e.record, FeatureWindow) and e.record.kind is kind]


def insights(results: Sequence[Envelope], *, final: bool) -> list[Insight]:
    return [e.record for e in results if isinstance(e.record, Insight) and e.record.is_final is final]


def test_whatever_is_shed_detection_is_the_same_to_the_bit() -> None:
    frames = speech(2.0, 2.0)
    calm, late = Worker().work(frames, 5), Worker().work(frames, 5_000)
    assert of(calm, VoiceActivity) == of(late, VoiceActivity)
    assert of(calm, SpeechFrame) == of(late, SpeechFrame)
    assert windows(calm, WindowKind.WINDOW)
    assert not windows(late, WindowKind.WINDOW)


def test_first_infer_is_shed_and_utterances_are_judged_all_the_same() -> None:
    worker, frames = Worker(), speech(2.0)
    hysteresis = Overload(lag_ms=120, calm_ms=80, rise_s=0.25)
    calm = Worker().work(frames, 5)
    worker.work(speech(0.3)[: int(hysteresis.rise_s / 0.02) + 2], 500)  # late for so long that infer goes
    assert worker.told[-1].shed == ["infer"]
    worker.pipeline.detect.drop(lambda _: True)
    worker.pipeline.extract.drop(lambda _: True)
    shed = worker.work(frames, hysteresis.lag_ms)  # neither calm nor late: it stays like that
    assert not insights(shed, final=False)
    assert insights(calm, final=False)
    assert insights(shed, final=True) == insights(calm, final=True)
    assert of(shed, FeatureWindow) == of(calm, FeatureWindow)


def test_a_segment_that_loses_its_features_says_so_and_the_next_one_after_it_has_them() -> None:
    frames = speech(3.0, 3.0)
    alone = windows(Worker().work(frames, 5), WindowKind.UTTERANCE)
    worker = Worker()
    results = worker.work(frames[:100], 5) + worker.work(frames[100:150], 500) + worker.work(frames[150:200], 5)
    assert worker.told[-1].shed == ["infer", "extract"]
    worker.wait(10)
    results += worker.work(frames[200:], 5)
    first, second = windows(results, WindowKind.UTTERANCE)
    assert first.missing_because == "shed"
    assert (first.segment, first.start, first.duration) == (alone[0].segment, alone[0].start, alone[0].duration)
    assert first.coverage == 0
    assert not len(first.functionals)
    assert wire.decode("voice.features", wire.encode(Envelope(first))).record.missing_because == "shed"  # type: ignore[union-attr]
    assert second.missing_because == ""
    assert second.functionals.tolist() == alone[1].functionals.tolist()
    told = {o.unknown_because for i in insights(results, final=True) if i.segment == first.segment for o in i.outputs}
    assert any("left out" in because for because in told)
    unsegmented = [w for w in windows(results, WindowKind.WINDOW) if w.segment == first.segment]
    assert all(window.start + window.duration <= 150 * 320 for window in unsegmented)


def test_a_worker_says_what_it_leaves_out_at_once_and_every_second_how_late_it_is() -> None:
    worker = Worker()
    worker.work(speech(1.0), 300)
    assert [list(status.shed) for status in worker.told] == [["infer"], ["infer", "extract"]]
    assert worker.told[0].since_ns == worker.told[0].time_ns
    worker.wait(1)
    assert worker.told[-1].lag_ms == 300
    assert worker.told[-1].since_ns == worker.told[1].time_ns
    worker.wait(10)
    assert list(worker.told[-1].shed) == []
    assert worker.told[-1].lag_ms == 0
    worker.pipeline.load.stop()
    assert worker.told[-1].stopped
    assert len({status.worker for status in worker.told}) == 1


def test_a_recording_that_is_sent_as_fast_as_it_goes_is_analysed_in_full() -> None:
    frames, calm = speech(2.0, 2.0), Worker().work(speech(2.0, 2.0), 5)
    worker = Worker()
    began_ns = worker.clock.now_ns
    results = []
    for n, frame in enumerate(frames):
        worker.clock.now_ns += 5_000_000  # it takes the worker so long
        came_ns = began_ns + n * 100_000
        envelopes = [Envelope(frame, Ledger(arrived_ns=came_ns, published_ns=came_ns))]
        worker.pipeline.load.observe(envelopes)
        results += worker.pipeline(envelopes)
    assert not worker.told
    assert of(results, FeatureWindow) == of(calm, FeatureWindow)
    assert of(results, Insight) == of(calm, Insight)


def test_an_import_of_old_audio_is_analysed_in_full() -> None:
    frames = speech(2.0)
    old, calm = Worker().work(frames, 86_400_000), Worker().work(frames, 5)
    assert of(old, FeatureWindow) == of(calm, FeatureWindow)
    assert of(old, Insight) == of(calm, Insight)


def test_a_stage_by_itself_is_late_only_by_what_it_adds() -> None:
    worker = Worker("infer")
    for _ in range(100):
        worker.clock.now_ns += 20_000_000
        now = worker.clock.now_ns
        record = speech(0.1)[0]
        worker.pipeline.load.observe([Envelope(record, Ledger(published_ns=now - 5 * SECOND_NS, extracted_ns=now))])
    assert not worker.told


def test_a_file_that_is_sent_faster_than_it_was_spoken_sheds_nothing() -> None:
    worker = Worker()
    for frame in speech(2.0, 2.0):  # all of it arrives within moments, and is worked on a second later
        worker.clock.now_ns += 1_000_000
        at_ns = worker.clock.now_ns - SECOND_NS
        envelopes = [Envelope(frame, Ledger(arrived_ns=at_ns, published_ns=at_ns))]
        worker.pipeline.load.observe(envelopes)
        worker.pipeline(envelopes)
    assert not worker.told
