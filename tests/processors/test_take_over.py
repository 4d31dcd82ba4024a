"""Workers that die at any record, and others that go on from what these have committed: the results are the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.config import load
from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, VOICE_FEATURES, VOICE_SPEECH
from processors import wire
from processors.app import build_pipeline
from processors.records import AudioFrame, Envelope, Ledger, SpeechFrame
from processors.topology import Pipeline
from tests.processors.kafka_in_memory import Partition, Step, Worker, without_ledger
from tests.signals import hush, join, voice

SECOND = 16_000
RECORD = 1_600
CONFIG = load(
    processors={
        "detect": {"detector": "energy"},
        "extract": {"warm_engines": 0, "functionals_every": 10},
        "infer": {"enabled": ["arousal"]},
    }
)
STREAMS = {StreamId("call-1", "customer"): 0, StreamId("call-1", "agent"): 1, StreamId("call-2", "customer"): 2}
UTTERANCES = 6
LATER = 60 * 10**9
"""When a second stream of one of the ids begins."""


def audio_of(stream: StreamId, utterances: int, at_ns: int) -> list[Envelope]:
    """Short ones, so that a worker may well have seen several; enough for a baseline."""
    seed = STREAMS[stream]
    parts = [(voice(1.5 - 0.1 * seed, f0_hz=100 + 10 * n, seed=seed + n), hush(0.85)) for n in range(utterances)]
    pcm = join(hush(0.3 + 0.4 * seed), *(part for both in parts for part in both))
    count = len(pcm) // RECORD
    return [
        Envelope(
            AudioFrame(stream, n, n * RECORD, pcm[n * RECORD : (n + 1) * RECORD], last=n == count - 1),
            Ledger(arrived_ns=at_ns + (n + 1) * 100_000_000),
        )
        for n in range(count)
    ]


@cache
def audio() -> Partition:
    """Three streams beside one another, one of which ends early, and one that begins again under the same id."""
    partition = Partition(AUDIO_FRAMES.name)
    legs = [audio_of(stream, UTTERANCES - n, 1 + n) for n, stream in enumerate(STREAMS)]
    again = audio_of(StreamId("call-2", "customer"), 2, LATER)
    together = sorted([envelope for leg in legs for envelope in leg], key=lambda e: e.ledger.arrived_ns)
    partition.append([*together, *again])
    return partition


def results(envelopes: Sequence[Envelope]) -> set[str]:
    return without_ledger(e for e in envelopes if not isinstance(e.record, SpeechFrame))


def pipeline() -> Pipeline:
    return build_pipeline(CONFIG)


def stage_of(pipe: Pipeline, stage: str | None) -> Step:
    steps: dict[str | None, Step] = {
        None: pipe,
        "detect": pipe.detect,
        "extract": pipe.extract,
        "infer": pipe.infer,
    }
    return steps[stage]


def undisturbed(stage: str | None, topic: Partition) -> list[Envelope]:
    return stage_of(pipeline(), stage)(topic.read(0, len(topic.values)))


@cache
def speech() -> Partition:
    partition = Partition(VOICE_SPEECH.name)
    partition.append(undisturbed("detect", audio()))
    return partition


@cache
def features() -> Partition:
    partition = Partition(VOICE_FEATURES.name)
    partition.append(undisturbed("extract", speech()))
    return partition


TOPICS = {None: audio, "detect": audio, "extract": speech, "infer": features}


def run_with_deaths(stage: str | None, topic: Partition, lives: Sequence[Sequence[float]]) -> list[Envelope]:
    """Each worker works up to those shares of what is left, and commits after each but the last; then it is dead."""
    marks: dict[str, bytes] = {}
    committed, found = 0, list[Envelope]()
    end = len(topic.values)
    for shares in [*lives, [1.0]]:
        pipe = pipeline()
        worker = Worker(topic, stage_of(pipe, stage), pipe.keepers(stage)[topic.topic], marks, committed)
        for n, share in enumerate(shares):
            found += worker.work(worker.at + round((end - worker.at) * share))
            if n < len(shares) - 1:
                worker.commit()
                committed = worker.committed
        pipe.drop(lambda stream: True)
    return found


shares = st.sampled_from([0.0, 0.03, 0.1, 0.2, 0.3, 0.37, 0.45])
lives = st.lists(st.lists(shares, min_size=2, max_size=4), min_size=1, max_size=3)


@pytest.mark.parametrize("stage", [None, "detect", "extract", "infer"])
@settings(max_examples=4)
@given(lives=lives)
def test_whenever_workers_die_the_results_are_the_same(stage: str | None, lives: list[list[float]]) -> None:
    topic = TOPICS[stage]()
    expected = results(undisturbed(stage, topic))
    assert len(expected) > 20
    assert not results(run_with_deaths(stage, topic, lives)) ^ expected


@settings(max_examples=4)
@given(lives=lives, others=lives)
def test_what_comes_twice_of_the_stage_before_changes_nothing(
    lives: list[list[float]], others: list[list[float]]
) -> None:
    """In the chained wiring: detect dies, and says some of it again; so may extract while it reads that."""
    again = Partition(VOICE_SPEECH.name)
    again.append(run_with_deaths("detect", audio(), lives))
    expected = results(undisturbed("extract", speech()))
    found = run_with_deaths("extract", again, others)
    assert not results(found) ^ expected
    windows = Partition(VOICE_FEATURES.name)
    windows.append(found)
    assert not results(run_with_deaths("infer", windows, lives)) ^ results(undisturbed("infer", features()))


def test_a_commit_holds_back_little() -> None:
    """Only what the open segments need, and nothing for streams that have ended."""
    topic, pipe = audio(), pipeline()
    worker = Worker(topic, pipe, pipe, {}, 0)
    for end in range(10, len(topic.values), 10):
        worker.work(end)
        worker.commit()
        held = topic.read(worker.committed, end)
        oldest = min((e.ledger.arrived_ns for e in held), default=LATER)
        newest = max((e.ledger.arrived_ns for e in held), default=LATER)
        assert newest - oldest < 3 * 10**9 or newest > LATER
    worker.work(len(topic.values))
    worker.commit()
    assert worker.committed == len(topic.values)


def test_without_its_audio_a_stream_is_begun_anew() -> None:
    """Retention may have been quicker."""
    topic, pipe, marks = audio(), pipeline(), dict[str, bytes]()
    worker = Worker(topic, pipe, pipe, marks, 0)
    worker.work(200)
    worker.commit()
    pipe = pipeline()
    late = Worker(topic, pipe, pipe, marks, 220)
    found = late.work(len(topic.values))
    assert results(found) & results(undisturbed(None, topic))
    assert any(wire.topic_of(e.record) == VOICE_FEATURES for e in found)


@settings(max_examples=4)
@given(lives=lives, swaps=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), max_size=30))
def test_records_out_of_order_and_twice_do_not_matter(lives: list[list[float]], swaps: list[tuple[int, int]]) -> None:
    """Whatever waits for its turn when a worker dies waits again in the next one."""
    disordered = Partition(AUDIO_FRAMES.name)
    disordered.values = list(audio().values)
    for at, by in swaps:
        if at + by < 200:  # all before the second stream of the same id
            disordered.values.insert(at, disordered.values.pop(at + by))
            disordered.values.insert(at + by, disordered.values[at])
    assert not results(run_with_deaths(None, disordered, lives)) ^ results(undisturbed(None, disordered))
