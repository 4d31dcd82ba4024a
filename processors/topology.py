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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faust

from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, VOICE_FEATURES, VOICE_SPEECH, Topic
from processors.infer_streams import InferStreams
from processors.intake import decode_fetch
from processors.keeping import Keeper, Kept
from processors.load import Load
from processors.outbox import Outbox
from processors.records import Envelope, SpeechFrame
from processors.rejects import Rejects
from processors.stages.marks import StreamMark
from processors.streams import DetectStreams, ExtractStreams
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

    def kept(self) -> Iterator[Kept]:
        """See `Keeper`: of all three at once, as they were where detect is."""
        for stream, needs, mark in self.detect.kept():
            if mark is not None and mark.detect is not None and mark.extract is None:
                before = mark.detect.since
                mark = replace(mark, extract=self.extract.mark(stream, before), infer=self.infer.mark(stream, before))
            yield Kept(stream, needs, mark)

    def resume(self, marks: Iterable[StreamMark]) -> None:
        """See `Keeper`."""
        known = list(marks)
        self.detect.resume(known)
        self.extract.resume(known)
        self.infer.resume(known)

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """See `Keeper`."""
        for step in (self.detect, self.extract, self.infer):
            step.drop(belongs)

    def keepers(self, stage: str | None) -> dict[str, Keeper]:
        """Who follows the streams on each topic that a worker reads.

        Args:
            stage: the one that it runs; None: all.
        """
        match stage:
            case None:
                return {AUDIO_FRAMES.name: self}
            case "detect":
                return {AUDIO_FRAMES.name: self.detect}
            case "extract":
                return {VOICE_SPEECH.name: self.extract}
            case _:
                speech = {VOICE_SPEECH.name: _Listening(self.infer)} if self.infer.listens else {}
                return {VOICE_FEATURES.name: self.infer, **speech}

    def _go_on(self, heard: list[Envelope]) -> list[Envelope]:
        spoken = [envelope for envelope in heard if isinstance(envelope.record, SpeechFrame)]
        described = self.extract(spoken)
        judged = self.infer([*spoken, *described] if self.infer.listens else described)
        return [*heard, *described, *judged]


@dataclass(frozen=True, slots=True)
class _Listening:
    """Infer as the keeper of the speech that it hears; its other half drops it too."""

    infer: InferStreams

    def kept(self) -> Iterator[Kept]:
        return self.infer.kept_speech()

    def resume(self, marks: Iterable[StreamMark]) -> None:
        self.infer.resume_speech(marks)

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        pass


def fused(app: faust.App, pipeline: Pipeline, outbox: Outbox, rejects: Rejects) -> None:
    """One agent does everything."""
    frames = app.topic(AUDIO_FRAMES.name, schema=RecordBatches())

    @app.agent(frames, name="analyse")
    async def analyse(fetches: Any) -> None:
        async for fetch in fetches:
            if not fetch.begin():
                continue
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
                if not fetch.begin():
                    continue
                records = decode_fetch(fetch, outbox.partitions, rejects)
                pipeline.load.observe(records)
                results = step(records)
                await outbox.send(fetch, results, rejects.take(fetch))

    for topic in topics:
        read(topic)
