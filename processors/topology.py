"""THE pipeline: which stage reads which topic, and where its results go.

::

    audio.frames ──► detect ──► voice.activity
                        └─────► voice.speech ──► extract ──► voice.features ──► infer ──► voice.insights

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
        described = self.extract([envelope for envelope in heard if isinstance(envelope.record, SpeechFrame)])
        judged = self.infer(described)
        return [*heard, *described, *judged]


def fused(app: faust.App, pipeline: Pipeline, outbox: Outbox) -> None:
    """One agent does everything."""
    frames = app.topic(AUDIO_FRAMES.name, schema=RecordBatches())

    @app.agent(frames, name="analyse")
    async def analyse(batches: Any) -> None:
        async for batch in batches:
            await outbox.send(batch, pipeline(decode_batch(batch)))


def chained(app: faust.App, stage: str, pipeline: Pipeline, outbox: Outbox) -> None:
    """One agent does one stage; the others run in other workers."""
    steps: Mapping[str, tuple[Topic, Step]] = {
        "detect": (AUDIO_FRAMES, pipeline.detect),
        "extract": (VOICE_SPEECH, pipeline.extract),
        "infer": (VOICE_FEATURES, pipeline.infer),
    }
    topic, step = steps[stage]

    @app.agent(app.topic(topic.name, schema=RecordBatches()), name=stage)
    async def work(batches: Any) -> None:
        async for batch in batches:
            await outbox.send(batch, step(decode_batch(batch)))
