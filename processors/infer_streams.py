"""The infer stage at work on many streams: a batch of windows and speech goes through each model at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from callscope.streams import StreamId
from processors import telemetry
from processors.keeping import EndedStreams, Kept
from processors.records import Consent, Envelope, FeatureWindow, Insight, InsightsEnd, Ledger, SpeechFrame, WindowKind
from processors.stages.infer import Infer
from processors.stages.marks import InferMark, StreamMark
from processors.streams import Clock, Failed, never, not_expected

T = TypeVar("T", FeatureWindow, SpeechFrame)

_HALF_ENDED_STREAMS = 10_000


@dataclass(slots=True)
class _Followed:
    """A stream's windows, or its speech.

    Attributes:
        done: its newest finished segment.
        done_before: the newest one that was finished when another worker handed it over.
        done_to: offset behind the record that finished it.
        arrived_ns: when its audio arrived.
        open: of speech: the segment that is not finished, and the offset of its first record.
    """

    done: int = -1
    done_before: int = -1
    done_to: int = 0
    arrived_ns: int = 0
    open: tuple[int, int] | None = None

    def finish(self, segment: int, envelope: Envelope) -> None:
        self.done = max(self.done, segment)
        self.done_to, self.arrived_ns, self.open = envelope.offset + 1, envelope.ledger.arrived_ns, None


def no_consents() -> Sequence[Consent]:
    """Nobody said anything."""
    return ()


class InferStreams:
    """Feature windows (and, for models that listen, speech frames) in; insights out. Those of a batch go together.

    A stream's last record says that it has ended: where models listen, when both its windows and its speech have.

    Args:
        infer: the models, the policy, the consents and the streams' baselines.
        clock: for the ledger.
        consents: what was allowed or refused since it was last asked; asked before every batch.
        sheds: whether windows and speech are to be passed over; asked once a batch. Utterances are judged all the same:
            there are few, and baselines rest on them.
        failed: told of records that cannot be worked on.
    """

    def __init__(
        self,
        infer: Infer,
        clock: Clock,
        consents: Callable[[], Sequence[Consent]] = no_consents,
        sheds: Callable[[], bool] = never,
        failed: Failed = not_expected,
    ) -> None:
        self._sheds = sheds
        self._failed = failed
        self._infer = infer
        self._clock = clock
        self._fresh_consents = consents
        self._streams: dict[StreamId, _Followed] = {}
        self._listened: dict[StreamId, _Followed] = {}
        self._ended = EndedStreams("infer")
        self._ended_speech = EndedStreams("infer")
        self._half_ended: dict[StreamId, None] = {}
        self._counted: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """Streams being followed."""
        return len(self._streams.keys() | self._listened.keys())

    @property
    def listens(self) -> bool:
        """Whether speech frames are wanted beside the windows."""
        return self._infer.listens

    def __call__(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Infer from each window and frame; a stream's end makes it forgotten."""
        for consent in self._fresh_consents():
            self._infer.obey(consent)
        shed, passed_over = self._sheds(), 0
        windows: list[tuple[FeatureWindow, Ledger]] = []
        frames: list[tuple[SpeechFrame, Ledger]] = []
        results: list[Envelope] = []
        ends: list[Envelope] = []
        for envelope in envelopes:
            record = envelope.record
            if isinstance(record, SpeechFrame):
                if not self.listens or (record.stream not in self._listened and self._ended_speech.is_over(envelope)):
                    continue
                if record.stream_ended:
                    results += self._run(self._infer.hear, frames)
                    frames = []
                    self._forget_audio(record.stream)
                    self._ended_speech.note(record.stream, envelope.offset + 1, envelope.ledger.arrived_ns)
                    ends += self._end(envelope, record)
                elif self._follow_speech(envelope, record):
                    if shed:
                        passed_over += record.last
                    else:
                        frames.append((record, envelope.ledger))
                continue
            assert isinstance(record, FeatureWindow)
            if record.stream not in self._streams and self._ended.is_over(envelope):
                continue
            if record.kind is WindowKind.STREAM_END:
                results += self._run(self._infer.step_many, windows)
                windows = []
                self._forget(record.stream)
                self._ended.note(record.stream, envelope.offset + 1, envelope.ledger.arrived_ns)
                ends += self._end(envelope, record)
            elif shed and record.kind is WindowKind.WINDOW:
                passed_over += 1
            elif self._follow_windows(envelope, record):
                windows.append((record, envelope.ledger))
        results += self._run(self._infer.step_many, windows)
        results += self._run(self._infer.hear, frames)
        self._count_withheld()
        if passed_over:
            telemetry.work_shed("infer", passed_over)
        return results + ends

    def _follow_windows(self, envelope: Envelope, window: FeatureWindow) -> bool:
        """Keep track; False: it comes again, and what comes of it was delivered before another worker handed over."""
        followed = self._streams.get(window.stream)
        if followed is None:
            followed = self._streams[window.stream] = _Followed()
        if window.segment <= followed.done_before:
            return False
        if window.kind is WindowKind.UTTERANCE:
            followed.finish(window.segment, envelope)
        return True

    def _follow_speech(self, envelope: Envelope, frame: SpeechFrame) -> bool:
        """The same for speech."""
        followed = self._listened.get(frame.stream)
        if followed is None:
            followed = self._listened[frame.stream] = _Followed()
        if frame.segment <= followed.done:
            return False
        if frame.last:
            followed.finish(frame.segment, envelope)
        elif followed.open is None or followed.open[0] != frame.segment:
            followed.open = frame.segment, envelope.offset
        return True

    def _run(
        self, judge: Callable[[Sequence[T]], list[list[Insight]]], waiting: Sequence[tuple[T, Ledger]]
    ) -> list[Envelope]:
        if not waiting:
            return []
        insights_by_record = judge([record for record, _ in waiting])
        for failure in self._infer.take_failures():
            self._failed("infer", Envelope(*waiting[failure.index]), failure.error)
        now = self._clock()
        return [
            Envelope(insight, replace(ledger, inferred_ns=now))
            for (_, ledger), insights in zip(waiting, insights_by_record, strict=True)
            for insight in insights
        ]

    def _end(self, envelope: Envelope, record: FeatureWindow | SpeechFrame) -> list[Envelope]:
        if self.listens and self._half_ended.pop(record.stream, self) is self:
            self._half_ended[record.stream] = None
            while len(self._half_ended) > _HALF_ENDED_STREAMS:  # their other half went to another worker
                self._half_ended.pop(next(iter(self._half_ended)))
            return []
        ledger = replace(envelope.ledger, inferred_ns=self._clock())
        return [Envelope(InsightsEnd(record.stream, record.start), ledger)]

    def _count_withheld(self) -> None:
        for (model, because), count in (self._infer.withheld - self._counted).items():
            telemetry.windows_withheld(model, because, count)
        self._counted = Counter(self._infer.withheld)

    def _forget(self, stream: StreamId) -> None:
        self._infer.drop(stream)
        self._streams.pop(stream, None)

    def _forget_audio(self, stream: StreamId) -> None:
        self._infer.drop_audio(stream)
        self._listened.pop(stream, None)

    def mark(self, stream: StreamId, before: int) -> InferMark:
        """What is known of a stream before a segment.

        Args:
            stream: the leg.
            before: the segment.
        """
        return InferMark(before - 1, self._infer.baselines(stream, before))

    def kept(self) -> Iterator[Kept]:
        """See `Keeper`: of voice.features."""
        for stream, followed in self._streams.items():
            mark = InferMark(followed.done, self._infer.baselines(stream))
            yield Kept(stream, None, _as_mark(stream, followed, mark))
        yield from self._ended.fresh()

    def kept_speech(self) -> Iterator[Kept]:
        """See `Keeper`: of voice.speech."""
        for stream, followed in self._listened.items():
            needs = followed.open[1] if followed.open else None
            yield Kept(stream, needs, _as_mark(stream, followed, InferMark(followed.done)))
        yield from self._ended_speech.fresh()

    def resume(self, marks: Iterable[StreamMark]) -> None:
        """See `Keeper`: of voice.features, or of all that another worker did."""
        for mark in marks:
            if mark.ended:
                self._ended.remember(mark)
                continue
            if mark.infer is None:
                continue
            self._streams[mark.stream] = _resumed(mark, mark.infer)
            self._infer.resume(mark.stream, mark.infer)
            if mark.detect is None:
                telemetry.stream_rebuilt()

    def resume_speech(self, marks: Iterable[StreamMark]) -> None:
        """See `Keeper`: of voice.speech, after `resume`. Streams that ended on one of both only are ended by half."""
        for mark in marks:
            if mark.ended:
                self._ended_speech.remember(mark)
            elif mark.infer is not None:
                self._listened[mark.stream] = _resumed(mark, mark.infer)
        for one, other, running in (
            (self._ended, self._ended_speech, self._listened),
            (self._ended_speech, self._ended, self._streams),
        ):
            for end in one:
                later = running.get(end.stream)
                if other.end_of(end.stream) is None and (later is None or later.arrived_ns <= end.arrived_ns):
                    self._half_ended[end.stream] = None

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        for stream in [stream for stream in self._streams if belongs(stream)]:
            self._forget(stream)
        for stream in [stream for stream in self._listened if belongs(stream)]:
            self._forget_audio(stream)
        for ended in (self._ended, self._ended_speech):
            ended.drop(belongs)
        self._half_ended = {stream: None for stream in self._half_ended if not belongs(stream)}


def _as_mark(stream: StreamId, followed: _Followed, mark: InferMark) -> StreamMark | None:
    if not followed.done_to:
        return None
    return StreamMark(stream, followed.done_to, followed.done_to, followed.arrived_ns, infer=mark)


def _resumed(mark: StreamMark, infer: InferMark) -> _Followed:
    return _Followed(infer.done, infer.done, mark.offset if mark.detect is None else 0, mark.arrived_ns)
