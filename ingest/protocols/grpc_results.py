"""What waits to be sent back on one `StreamAnalysis` call: answers and results, in a bounded queue, none twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from callscope.mailbox import Mailbox
from callscope.streams import StreamId
from callscope.topics import CALL_EVENTS, VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.analysis_pb2 import AnalysisResult, Dropped, StreamStart
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.features_pb2 import FeatureWindow
from schemas.v1.insight_pb2 import Insight

DUPLICATE_WINDOW: Final = 8_192
"""Results within which a repeated one is recognised: minutes of two legs. A worker that takes over repeats less."""

RESULT_TOPICS: Final = (VOICE_ACTIVITY.name, VOICE_FEATURES.name, VOICE_INSIGHTS.name, CALL_EVENTS.name)
"""Where results are read from."""

_Record: TypeAlias = VoiceActivity | FeatureWindow | Insight | CallEvent


class GrpcResults:
    """One call's results.

    Args:
        streams: the legs the call carries, as they are named on the topics.
        call_id: the call's id as the client knows it.
        start: which results it wants.
        limit: messages that may wait.
        on_ready: called whenever one was put in.
    """

    def __init__(
        self, streams: Iterable[StreamId], call_id: str, start: StreamStart, limit: int, on_ready: Callable[[], None]
    ) -> None:
        self._call_id = call_id
        self._legs = {stream.leg for stream in streams}
        self._kinds = frozenset(start.results) or frozenset(StreamStart.Results.values())
        self._lld, self._functionals = start.lld, start.functionals
        self._mailbox: Mailbox[AnalysisResult] = Mailbox(limit)
        self._on_ready = on_ready
        self._seen: dict[tuple[object, ...], None] = {}
        self._running = {(topic, leg) for topic in _SAYS_WHEN_ENDED for leg in self._legs}
        self._seq = 0
        self.heard = 0
        """Records of this call that came, wanted or not."""
        self.duplicates = 0
        """Those of them that had come before."""

    @property
    def complete(self) -> bool:
        """Every topic that says so has said that the legs have ended."""
        return not self._running

    @property
    def too_slow(self) -> bool:
        """A final result found no room: the call must end."""
        return self._mailbox.overflowed

    def __len__(self) -> int:
        """How many wait."""
        return len(self._mailbox)

    def answer(self, message: AnalysisResult) -> None:
        """Queue an answer of the gateway's own."""
        self._mailbox.put(message, final=message.is_final)
        self._on_ready()

    def record(self, topic: str, value: bytes) -> int:
        """Take in a record of one of the call's streams, or of the call.

        Returns:
            How many interim results had to go to make room, 0 or 1.

        Raises:
            DecodeError: these bytes are not a record of that topic.
        """
        record = _MESSAGES[topic].FromString(value)
        if record.leg and record.leg not in self._legs:
            return 0
        self.heard += 1
        kind, is_final, has_ended = _described(record)
        if has_ended:
            self._running.discard((topic, record.leg))
            if not isinstance(record, CallEvent):
                return 0
        if kind not in self._kinds or self._is_repeated(topic, record, is_final):
            return 0
        record.call_id = self._call_id
        dropped = self._mailbox.put(self._message(record, is_final), final=is_final)
        self._on_ready()
        return dropped

    def next(self, pushed_ns: int) -> AnalysisResult | None:
        """The next message to write, numbered and stamped; None if nothing waits, or a final result was lost."""
        if self.too_slow:
            return None
        if dropped := self._mailbox.take_dropped():
            message = AnalysisResult(is_final=True, dropped=Dropped(count=dropped))
        elif len(self._mailbox):
            message = self._mailbox.take()
        else:
            return None
        self._seq += 1
        message.seq, message.pushed_ns = self._seq, pushed_ns
        return message

    def _message(self, record: _Record, is_final: bool) -> AnalysisResult:
        match record:
            case VoiceActivity():
                return AnalysisResult(is_final=is_final, activity=record)
            case FeatureWindow():
                if not self._lld:
                    record.ClearField("lld")
                if not self._functionals:
                    record.ClearField("functionals")
                return AnalysisResult(is_final=is_final, features=record)
            case Insight():
                return AnalysisResult(is_final=is_final, insight=record)
            case CallEvent():
                return AnalysisResult(is_final=is_final, call=record)

    def _is_repeated(self, topic: str, record: _Record, is_final: bool) -> bool:
        what: tuple[object, ...]
        match record:
            case CallEvent():
                what = (record.kind, record.at, record.time_ns)
            case Insight():
                what = (record.model, record.start, record.duration)
            case _:
                what = (record.kind, record.start, record.duration)
        key = (topic, record.leg, is_final, *what)
        if key in self._seen:
            self.duplicates += 1
            return True
        self._seen[key] = None
        if len(self._seen) > DUPLICATE_WINDOW:
            del self._seen[next(iter(self._seen))]
        return False


def _described(record: _Record) -> tuple[int, bool, bool]:
    """Which of `StreamStart.Results` it is, whether it is final, and whether it says that the leg has ended."""
    match record:
        case VoiceActivity():
            return StreamStart.ACTIVITY, record.kind != VoiceActivity.LEVEL, False
        case FeatureWindow():
            is_final = record.kind == FeatureWindow.UTTERANCE
            return StreamStart.FEATURES, is_final, record.kind == FeatureWindow.STREAM_END
        case Insight():
            return StreamStart.INSIGHT, record.is_final, record.stream_ended
        case CallEvent():
            return StreamStart.CALL, True, record.kind == CallEvent.STREAM_ENDED


_MESSAGES: Final[Mapping[str, type[_Record]]] = {
    VOICE_ACTIVITY.name: VoiceActivity,
    VOICE_FEATURES.name: FeatureWindow,
    VOICE_INSIGHTS.name: Insight,
    CALL_EVENTS.name: CallEvent,
}
_SAYS_WHEN_ENDED: Final = (VOICE_FEATURES.name, VOICE_INSIGHTS.name, CALL_EVENTS.name)
