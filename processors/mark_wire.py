"""Marks to bytes and back."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from callscope.streams import StreamId
from processors import wire
from processors.stages.baseline import Baseline
from processors.stages.marks import DetectMark, ExtractMark, InferMark, StreamMark
from processors.stages.span import Span
from schemas.v1 import marks_pb2


def key(group: str, topic: str, stream: StreamId) -> str:
    """The key of a stream's marks: those of other workers, on other topics, are others."""
    return f"{group} {topic} {stream}"


def encode(group: str, topic: str, mark: StreamMark) -> bytes:
    """A mark as the bytes of worker.marks; equal ones give equal bytes.

    Args:
        group: consumer group of the workers.
        topic: the one that they read.
        mark: of one of its streams.
    """
    message = marks_pb2.StreamMark(
        group=group,
        topic=topic,
        call_id=mark.stream.call_id,
        leg=mark.stream.leg,
        offset=mark.offset,
        read_to=mark.read_to,
        ended=mark.ended,
        start=mark.start,
        seq=mark.seq,
        arrived_ns=mark.arrived_ns,
        detect=None if mark.detect is None else _detect_to(mark.detect),
        extract=None if mark.extract is None else _extract_to(mark.extract),
        infer=None if mark.infer is None else _infer_to(mark.infer),
    )
    return message.SerializeToString(deterministic=True)


def decode(value: bytes, group: str) -> tuple[str, StreamMark] | None:
    """What `encode` made of it.

    Args:
        value: the record's bytes.
        group: consumer group of the workers that ask.

    Returns:
        The topic and the mark; None where it is another group's.

    Raises:
        Undecodable: these bytes cannot be a mark; the message says why.
    """
    try:
        message = marks_pb2.StreamMark.FromString(value)
    except DecodeError as error:
        raise wire.Undecodable(f"not a callscope.v1.StreamMark: {error}") from error
    if message.group != group:
        return None
    if not message.topic or not message.call_id or not message.leg:
        raise wire.Undecodable("a callscope.v1.StreamMark without topic, call id or leg")
    return message.topic, StreamMark(
        stream=StreamId(message.call_id, message.leg),
        offset=message.offset,
        read_to=message.read_to,
        arrived_ns=message.arrived_ns,
        ended=message.ended,
        start=message.start,
        seq=message.seq,
        detect=_detect_from(message.detect) if message.HasField("detect") else None,
        extract=_extract_from(message.extract) if message.HasField("extract") else None,
        infer=_infer_from(message.infer) if message.HasField("infer") else None,
    )


def _span_to(span: Span | None) -> marks_pb2.Span | None:
    if span is None:
        return None
    return marks_pb2.Span(
        start=span.start, samples=span.samples, energy=span.energy, probability=span.probability, hops=span.hops
    )


def _span_from(message: marks_pb2.DetectMark, name: str) -> Span | None:
    if not message.HasField(name):  # type: ignore[arg-type]  # the stub lists literals
        return None
    span = getattr(message, name)
    return Span(span.start, span.samples, span.energy, span.probability, span.hops)


def _detect_to(mark: DetectMark) -> marks_pb2.DetectMark:
    return marks_pb2.DetectMark(
        detector=mark.detector,
        hop=mark.hop,
        decided_to=mark.decided_to,
        detector_from=mark.detector_from,
        primed=mark.primed,
        floor_dbfs=mark.floor_dbfs,
        segment=mark.segment,
        held_from=mark.held_from,
        speech=_span_to(mark.speech),
        pause=_span_to(mark.pause),
        onset=_span_to(mark.onset),
        level=_span_to(mark.level),
        speech_end=mark.speech_end,
        silence=mark.silence,
    )


def _detect_from(message: marks_pb2.DetectMark) -> DetectMark:
    return DetectMark(
        detector=message.detector,
        hop=message.hop,
        decided_to=message.decided_to,
        detector_from=message.detector_from,
        primed=message.primed,
        floor_dbfs=message.floor_dbfs if message.HasField("floor_dbfs") else None,
        segment=message.segment if message.HasField("segment") else None,
        held_from=message.held_from,
        speech=_span_from(message, "speech"),
        pause=_span_from(message, "pause"),
        onset=_span_from(message, "onset"),
        level=_span_from(message, "level"),
        speech_end=message.speech_end,
        silence=message.silence,
    )


def _extract_to(mark: ExtractMark) -> marks_pb2.ExtractMark:
    return marks_pb2.ExtractMark(done=mark.done, statistics=wire.statistics_to(mark.statistics))


def _extract_from(message: marks_pb2.ExtractMark) -> ExtractMark:
    return ExtractMark(message.done, wire.statistics_from(message.statistics))


def _infer_to(mark: InferMark) -> marks_pb2.InferMark:
    return marks_pb2.InferMark(
        done=mark.done,
        baselines=[
            marks_pb2.ModelBaseline(
                model=model, version=version, weight_s=known.weight_s, mean=known.mean, squares=known.squares
            )
            for (model, version), known in sorted(mark.baselines.items())
        ],
    )


def _infer_from(message: marks_pb2.InferMark) -> InferMark:
    return InferMark(
        message.done,
        {
            (known.model, known.version): Baseline(known.weight_s, tuple(known.mean), tuple(known.squares))
            for known in message.baselines
        },
    )
