"""THE pipeline: which stage reads which topic, and where its results go.

::

    audio.frames ──► detect ──► voice.activity
                        └─────► voice.speech ──► extract ──► voice.features ──► infer ──► voice.insights

Models of the waveform hear voice.speech: then infer reads that too. What speakers allowed or refused it learns from
call.events before every batch (`processors.consent_reader`).

What cannot be worked on goes to dead.letters (`processors.rejects`), and nothing else is touched.

Under load (`processors.load`) infer passes windows over, then extract leaves features out; detect never does.

Two wirings of the same stages write the same records to the same topics. `chained`: every stage is a Faust agent of its
own group, reading its topic from Kafka; scale any of them. `fused`: one agent runs all three in one process, handing
results on in memory as well as writing them; for one machine, where a hop over Kafka buys nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faust

from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, VOICE_FEATURES, VOICE_SPEECH, Topic
from processors.intake import decode_fetch
from processors.load import Load
from processors.outbox import Outbox
from processors.records import Envelope, SpeechFrame
from processors.rejects import Rejects
from processors.streams import DetectStreams, ExtractStreams, InferStreams
from processors.transport import RecordBatches

STAGES = ("detect", "extract", "infer")

Step = Callable[[Sequence[Envelope]], list[Envelope]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The three steps of one worker, and its load, which says what they leave out."""

    detect: DetectStreams
    extract: ExtractStreams
    infer: InferStreams
    load: Load

    def __call__(self, frames: Sequence[Envelope]) -> list[Envelope]:
        """All of it at once: audio frames in, everything that comes of them out."""
        return self._go_on(self.detect(frames))

    def end(self, streams: Iterable[StreamId]) -> list[Envelope]:
        """Everything that comes of streams being over, though no frame said so."""
        return self._go_on(self.detect.end(streams))

    def _go_on(self, heard: list[Envelope]) -> list[Envelope]:
        spoken = [envelope for envelope in heard if isinstance(envelope.record, SpeechFrame)]
        described = self.extract(spoken)
        judged = self.infer([*spoken, *described] if self.infer.listens else described)
        return [*heard, *described, *judged]


def fused(app: faust.App, pipeline: Pipeline, outbox: Outbox, rejects: Rejects) -> None:
    """One agent does everything."""
    frames = app.topic(AUDIO_FRAMES.name, schema=RecordBatches())

    @app.agent(frames, name="analyse")
    async def analyse(fetches: Any) -> None:
        async for fetch in fetches:
            records = decode_fetch(fetch, outbox.partitions, rejects)
            pipeline.load.observe(records)
            results = pipeline(records)
            await outbox.send(fetch, results, rejects.take(fetch))


def chained(app: faust.App, stage: str, pipeline: Pipeline, outbox: Outbox, rejects: Rejects) -> None:
    """One agent does one stage; the others run in other workers. A stage of two topics has an agent for each."""
    steps: Mapping[str, tuple[Step, Sequence[Topic]]] = {
        "detect": (pipeline.detect, [AUDIO_FRAMES]),
        "extract": (pipeline.extract, [VOICE_SPEECH]),
        "infer": (pipeline.infer, [VOICE_FEATURES, VOICE_SPEECH] if pipeline.infer.listens else [VOICE_FEATURES]),
    }
    step, topics = steps[stage]

    def read(topic: Topic) -> None:
        @app.agent(app.topic(topic.name, schema=RecordBatches()), name=f"{stage} {topic.name}")
        async def work(fetches: Any) -> None:
            async for fetch in fetches:
                records = decode_fetch(fetch, outbox.partitions, rejects)
                pipeline.load.observe(records)
                results = step(records)
                await outbox.send(fetch, results, rejects.take(fetch))

    for topic in topics:
        read(topic)
