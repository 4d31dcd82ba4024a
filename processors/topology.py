"""THE pipeline: which stage reads which topic, and where its results go.

::

    audio.frames ──► detect ──► voice.activity
                        └─────► voice.speech ──► extract ──► voice.features ──► infer ──► voice.insights

Models of the waveform hear voice.speech: then infer reads that too. What speakers allowed or refused it learns from
call.events before every batch (`processors.consent_reader`).

Two wirings of the same stages write the same records to the same topics. `chained`: every stage is a Faust agent of its
own group, reading its topic from Kafka; scale any of them. `fused`: one agent runs all three in one process, handing
results on in memory as well as writing them; for one machine, where a hop over Kafka buys nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faust

from callscope.topics import AUDIO_FRAMES, VOICE_FEATURES, VOICE_SPEECH, Topic
from processors.gathering import Gathering, shares
from processors.intake import decode_batch
from processors.outbox import Outbox
from processors.records import Envelope, SpeechFrame
from processors.streams import DetectStreams, ExtractStreams, InferStreams
from processors.transport import RecordBatches

Step = Callable[[Sequence[Envelope]], list[Envelope]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The three steps of one worker."""

    detect: DetectStreams
    extract: ExtractStreams
    infer: InferStreams

    def __call__(self, frames: Sequence[Envelope]) -> list[Envelope]:
        """All of it at once: audio frames in, everything that comes of them out."""
        heard = self.detect(frames)
        spoken = [envelope for envelope in heard if isinstance(envelope.record, SpeechFrame)]
        described = self.extract(spoken)
        judged = self.infer([*spoken, *described] if self.infer.listens else described)
        return [*heard, *described, *judged]


def fused(app: faust.App, pipeline: Pipeline, outbox: Outbox) -> None:
    """One agent does everything."""
    frames = app.topic(AUDIO_FRAMES.name, schema=RecordBatches())

    @app.agent(frames, name="analyse")
    async def analyse(batches: Any) -> None:
        async for batch in batches:
            await outbox.send(batch, pipeline(decode_batch(batch)))


def chained(app: faust.App, stage: str, pipeline: Pipeline, outbox: Outbox, gathering: Callable[[], Gathering]) -> None:
    """One agent does one stage; the others run in other workers."""
    if stage == "infer":
        inferring(app, pipeline, outbox, gathering)
        return
    steps: Mapping[str, tuple[Topic, Step]] = {
        "detect": (AUDIO_FRAMES, pipeline.detect),
        "extract": (VOICE_SPEECH, pipeline.extract),
    }
    topic, step = steps[stage]

    @app.agent(app.topic(topic.name, schema=RecordBatches()), name=stage)
    async def work(batches: Any) -> None:
        async for batch in batches:
            await outbox.send(batch, step(decode_batch(batch)))


def inferring(app: faust.App, pipeline: Pipeline, outbox: Outbox, gathering: Callable[[], Gathering]) -> None:
    """Infer on what lies ready of all partitions together; speech is read only where a model hears it."""

    def read(topic: Topic, name: str) -> None:
        waiting = gathering()

        @app.agent(app.topic(topic.name, schema=RecordBatches()), name=name)
        async def work(batches: Any) -> None:
            async for batch in batches:
                ready = waiting.add(batch, more_coming=not batches.channel.queue.empty())
                arrived = [(source, decode_batch(source)) for source in ready]
                results = pipeline.infer([envelope for _, envelopes in arrived for envelope in envelopes])
                for source, share in shares(arrived, results):
                    await outbox.send(source, share)
                waiting.done(ready)

    read(VOICE_FEATURES, "infer")
    if pipeline.infer.listens:
        read(VOICE_SPEECH, "infer-audio")
