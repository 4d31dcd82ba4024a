"""The tables of an export: their columns, and a record as a row. docs/export.md describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from callscope.exchange.retained import Stored
from callscope.feature_sets import EGEMAPS_FUNCTIONALS, EGEMAPS_LLDS
from callscope.topics import CALL_EVENTS, VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.features_pb2 import FeatureWindow, VoiceSummary
from schemas.v1.insight_pb2 import Insight
from schemas.v1.ledger_pb2 import Ledger

RATE_HZ: Final = 16_000
_ROWS: Final = 2_048
_BYTES: Final = 8 << 20

Row = dict[str, Any]

RECORDS: Final = pa.schema(
    [
        ("call_id", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
    ]
)
"""Records as they lay in Kafka, byte for byte."""


def record_row(stored: Stored, call_id: str) -> Row:
    """A record as a row of `RECORDS`."""
    return {
        "call_id": call_id,
        "partition": stored.partition,
        "offset": stored.offset,
        "timestamp_ms": stored.timestamp_ms,
        "key": stored.key,
        "value": stored.value,
        "headers": [{"name": name, "value": value} for name, value in stored.headers],
    }


_LEDGER: Final = ("arrived_ns", "published_ns", "detected_ns", "extracted_ns", "inferred_ns")
_WHOSE: Final = [
    ("id", pa.string()),
    ("call_id", pa.string()),
    ("leg", pa.string()),
    ("kind", pa.string()),
    ("start_s", pa.float64()),
    ("duration_s", pa.float64()),
    ("is_final", pa.bool_()),
]
_WHEN: Final = [*((name, pa.int64()) for name in _LEDGER), ("timestamp_ms", pa.int64())]
_SUMMARY: Final = tuple(field.name for field in VoiceSummary.DESCRIPTOR.fields)
_MOMENTS: Final = pa.struct([("weight_s", pa.float64()), ("mean", pa.float64()), ("squares", pa.float64())])
_STATISTICS: Final = ("f0", "loudness", "level_dbfs", "speech_rate_hz")


def _named(names: tuple[str, ...]) -> dict[bytes, bytes]:
    return {b"names": ",".join(names).encode()}


ACTIVITY: Final = pa.schema(
    [
        *_WHOSE,
        ("speaking", pa.bool_()),
        ("probability", pa.float64()),
        ("level_dbfs", pa.float64()),
        ("segment_s", pa.float64()),
        ("detector", pa.string()),
        *_WHEN,
    ]
)
FEATURES: Final = pa.schema(
    [
        *_WHOSE,
        ("segment_s", pa.float64()),
        ("coverage", pa.float64()),
        ("lookahead_ms", pa.float64()),
        ("feature_set", pa.string()),
        *((name, pa.float64()) for name in _SUMMARY),
        ("statistics", pa.struct([("segments", pa.int64()), *((name, _MOMENTS) for name in _STATISTICS)])),
        ("lld_first", pa.int64()),
        pa.field("lld", pa.list_(pa.float32()), metadata=_named(EGEMAPS_LLDS)),
        pa.field("functionals", pa.list_(pa.float32()), metadata=_named(EGEMAPS_FUNCTIONALS)),
        *_WHEN,
    ]
)
INSIGHTS: Final = pa.schema(
    [
        *_WHOSE,
        ("segment_s", pa.float64()),
        ("model_version", pa.string()),
        ("lookahead_ms", pa.float64()),
        ("caution", pa.string()),
        (
            "outputs",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("value", pa.float64()),
                        ("unit", pa.string()),
                        ("unknown_because", pa.string()),
                    ]
                )
            ),
        ),
        *_WHEN,
    ]
)
EVENTS: Final = pa.schema(
    [
        *_WHOSE,
        ("time_ns", pa.int64()),
        ("source", pa.string()),
        ("encoding", pa.string()),
        ("rate_hz", pa.int64()),
        ("metadata", pa.map_(pa.string(), pa.string())),
        ("reason", pa.string()),
        ("allowed", pa.bool_()),
        ("purposes", pa.list_(pa.string())),
        ("timestamp_ms", pa.int64()),
    ]
)


def _seconds(samples: int) -> float:
    return samples / RATE_HZ


def _activity(value: bytes) -> Row:
    record = VoiceActivity.FromString(value)
    return {
        "speaking": record.speaking,
        "probability": record.probability,
        "level_dbfs": record.level_dbfs,
        "segment_s": _seconds(record.segment) if record.HasField("segment") else None,
        "detector": record.detector,
        **_stations(record.ledger),
    }


def _features(value: bytes) -> Row:
    record = FeatureWindow.FromString(value)
    summary = record.summary
    statistics = record.statistics
    optional = {field.name for field in VoiceSummary.DESCRIPTOR.fields if field.has_presence}
    return {
        "segment_s": _seconds(record.segment),
        "coverage": record.coverage,
        "lookahead_ms": record.lookahead * 1_000 / RATE_HZ,
        "feature_set": record.feature_set,
        **{
            name: getattr(summary, name) if name not in optional or summary.HasField(name) else None  # type: ignore[arg-type]  # the stub lists literals
            for name in _SUMMARY
        },
        "statistics": {
            "segments": statistics.segments,
            **{
                name: {part: getattr(getattr(statistics, name), part) for part in ("weight_s", "mean", "squares")}
                for name in _STATISTICS
            },
        }
        if record.HasField("statistics")
        else None,
        "lld_first": record.lld_first,
        "lld": list(record.lld),
        "functionals": list(record.functionals),
        **_stations(record.ledger),
    }


def _insight(value: bytes) -> Row:
    record = Insight.FromString(value)
    return {
        "segment_s": _seconds(record.segment),
        "model_version": record.model_version,
        "lookahead_ms": record.lookahead * 1_000 / RATE_HZ,
        "caution": record.caution,
        "outputs": [
            {
                "name": output.name,
                "value": output.value if output.HasField("value") else None,
                "unit": output.unit,
                "unknown_because": output.unknown_because or None,
            }
            for output in record.outputs
        ],
        **_stations(record.ledger),
    }


def _event(value: bytes) -> Row:
    record = CallEvent.FromString(value)
    is_consent = record.kind == CallEvent.CONSENT
    return {
        "time_ns": record.time_ns,
        "source": record.source or None,
        "encoding": record.encoding or None,
        "rate_hz": record.rate_hz or None,
        "metadata": list(record.metadata.items()),
        "reason": record.reason or None,
        "allowed": record.allowed if is_consent else None,
        "purposes": list(record.purposes) if is_consent else None,
    }


def _stations(ledger: Ledger) -> Row:
    return {name: getattr(ledger, name) or None for name in _LEDGER}


TABLES: Final[Mapping[str, tuple[str, pa.Schema, Callable[[bytes], Row]]]] = {
    VOICE_ACTIVITY.name: ("activity", ACTIVITY, _activity),
    VOICE_FEATURES.name: ("features", FEATURES, _features),
    VOICE_INSIGHTS.name: ("insights", INSIGHTS, _insight),
    CALL_EVENTS.name: ("call_events", EVENTS, _event),
}
"""Topic → its table's name and columns, and what fills those that only it has."""


class TableWriter:
    """Writes a Parquet file in row groups of at most 2,048 rows or about 8 MiB, so that it never holds more.

    Args:
        path: of the file.
        schema: its columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, row: Row, size: int) -> None:
        """Add a row of about so many bytes."""
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a row group."""
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows, self._bytes = [], 0

    def close(self) -> None:
        """Write the rest and the footer."""
        self.flush()
        self._writer.close()
