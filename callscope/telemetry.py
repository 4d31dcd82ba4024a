"""Every metric and every log event, declared once, by component.

A component calls, for example, `telemetry.stream_rejected(...)`; what that counts and what it logs is decided here
and nowhere else. Metric names are an interface. Nothing here logs a secret, a token or audio.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

from callscope.clock import monotonic

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)


def configure_logging(level: str) -> None:
    """Log to standard error, one line an event, times in UTC to the millisecond."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s  %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.getLogger("callscope.librdkafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Repetitive("aiokafka"))


class _Repetitive(logging.Filter):
    """Thins out a logger that says the same ten times a second, as aiokafka does while its broker is away.

    Args:
        name: the logger, with those below it.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._lines = _Sparingly(10.0)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != self._name:
            return True
        count = self._lines.told()
        if count is not None and count > 1:
            record.msg, record.args = f"{record.getMessage()} (and {count - 1} lines before it)", ()
        return count is not None


class _Sparingly:
    """Lets through one line of an event that may come in thousands, with how many it stands for.

    Args:
        interval_s: between two lines, seconds.
    """

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._next_at = 0.0
        self._untold = 0

    def told(self) -> int | None:
        """How many happened since the last line, this one included; None: no line now."""
        self._untold += 1
        if (now := monotonic()) < self._next_at:
            return None
        self._next_at = now + self._interval_s
        told, self._untold = self._untold, 0
        return told


# ── all programs ────────────────────────────────────────────────────────────────────────────────────────────────

_kafka = logging.getLogger("callscope.kafka")


_dead_letters = Counter(
    "callscope_dead_letters_total",
    "Records that could not be worked on, by who could not and their topic",
    ["stage", "topic"],
)
_dead_letters_left_out = Counter(
    "callscope_dead_letters_left_out_total",
    "Of these, the ones no letter was written about: there were too many at once",
)
_dead_letter_lines = _Sparingly()


def record_dead(stage: str, topic: str, partition: int, offset: int, reason: str) -> None:
    """A record could not be worked on; all others were. `stage` is who could not: a stage, "fused" or "sink"."""
    _dead_letters.labels(stage, topic).inc()
    if (count := _dead_letter_lines.told()) is not None:
        others = f" (and {count - 1} before it)" if count > 1 else ""
        _kafka.warning("%s: dead letter: %s/%d/%d: %s%s", stage, topic, partition, offset, reason, others)


def dead_letter_left_out() -> None:
    """A record that could not be worked on has no letter; it stays where it lies."""
    _dead_letters_left_out.inc()


_reading_again = Counter(
    "callscope_reading_again_total", "Times topics were read on with another Kafka client, by reader", ["reader"]
)


def reading_again(reader: str, reason: str) -> None:
    """The client that follows topics failed, or brought nothing; another one takes its place."""
    _reading_again.labels(reader).inc()
    _kafka.error("%s: reading goes on with another client: %s", reader, reason)


def consumer_error(reason: str) -> None:
    """Kafka reported trouble that the client which follows topics mends by itself."""
    _kafka.warning("kafka: %s", reason)


_watchdog = logging.getLogger("callscope.watchdog")


def program_stuck(reason: str, seconds: float) -> None:
    """Something has stood still for too long: the program ends itself, to be started anew."""
    _watchdog.critical("ended by its watchdog: for %.0f s %s; it is safe to start it again", seconds, reason)


_security = logging.getLogger("callscope.security")


def certificate_loaded(whose: str) -> None:
    """A changed certificate is in force."""
    _security.info("%s: the certificate has changed and was loaded", whose)


def certificate_kept(whose: str, reason: str) -> None:
    """A changed certificate cannot be loaded; the one before stays."""
    _security.error("%s: a changed certificate cannot be loaded, the old one stays: %s", whose, reason)


def tokens_in_the_clear(whose: str, host: str) -> None:
    """A listener beyond this machine takes tokens without TLS."""
    _security.warning(
        "%s: tokens come to %s without TLS of ours; let nothing but a proxy that speaks it reach the port", whose, host
    )


# ── ingest ──────────────────────────────────────────────────────────────────────────────────────────────────────

_ingest = logging.getLogger("callscope.ingest")
KAFKA_CLIENT = logging.getLogger("callscope.ingest.kafka")
"""Where the gateway's librdkafka logs; by itself it would write to standard error in a format of its own."""


class _Seldom(logging.Filter):
    """Lets one line of a kind (librdkafka's first word: FAIL, ERROR) through in 30 s: it repeats itself for hours."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now_s = record.getMessage().partition(" ")[0], monotonic()
        if now_s - self._last_s.get(kind, -math.inf) < _REPEATED_S:
            return False
        self._last_s[kind] = now_s
        return True


_REPEATED_S = 30.0
KAFKA_CLIENT.addFilter(_Seldom())

_streams_open = Gauge("callscope_ingest_streams_open", "Streams being received", ["source"])
_streams = Counter("callscope_ingest_streams_total", "Streams received", ["source"])
_audio_seconds = Counter("callscope_ingest_audio_seconds_total", "Audio handed to Kafka, seconds over all streams")
_resumed = Counter("callscope_ingest_streams_resumed_total", "Streams that their clients went on with after a break")
_held_back = Counter("callscope_ingest_held_back_total", "Messages that were taken later because of a limit of rate")
_missing_seconds = Counter(
    "callscope_ingest_missing_seconds_total", "Audio that never came, seconds over all streams, by reason", ["reason"]
)
_ingest_errors = Counter(
    "callscope_ingest_errors_total",
    "Connections refused or closed with an error, by HTTP status or close code",
    ["code"],
)
_late_chunks = Counter(
    "callscope_ingest_late_chunks_total", "Chunks of audio that came after they were given up, or twice", ["source"]
)
_unheeded_messages = Counter(
    "callscope_ingest_unheeded_messages_total", "Messages of a protocol that need no action", ["source"]
)
_probes = Counter("callscope_ingest_probes_total", "Sessions that only tried the connection", ["source"])
_client_errors = Counter(
    "callscope_ingest_client_errors_total", "Errors that clients met on their side and told us", ["source", "code"]
)
_results_dropped = Counter(
    "callscope_ingest_results_dropped_total", "Interim results that gRPC clients which read slowly did not get"
)
_results_unreadable = Counter(
    "callscope_ingest_results_unreadable_total", "Results for gRPC clients that could not be read", ["topic"]
)
_shed_bytes = Counter("callscope_ingest_shed_bytes_total", "Audio discarded because Kafka did not keep up", ["source"])
_delivery_failures = Counter("callscope_ingest_delivery_failures_total", "Records that Kafka did not take", ["topic"])
_admitting = Gauge("callscope_ingest_admitting", "1: new streams are taken; 0: refused, because the workers are behind")
_spool_bytes = Gauge("callscope_ingest_spool_bytes", "What the spool holds, on disk and on the way there")
_spool_records = Gauge("callscope_ingest_spool_records", "Records in the spool that wait for Kafka")
_spool_age_s = Gauge(
    "callscope_ingest_spool_age_seconds", "For how long records have been going by the spool; 0: none do"
)
_spool_admitting = Gauge(
    "callscope_ingest_spool_admitting", "1: new streams are taken; 0: refused, because little room is left in the spool"
)
_spool_refused = Counter(
    "callscope_ingest_spool_refused_total", "Times audio of a stream was refused because it could not be kept"
)
_spool_failures = Counter("callscope_ingest_spool_failures_total", "Times the spool's disk failed")
_spool_torn_bytes = Counter(
    "callscope_ingest_spool_torn_bytes_total", "Bytes in the spool's files that were no records"
)
_backpressure = Counter("callscope_ingest_backpressure_total", "Times a source was held back because Kafka was busy")
_ingest_queue = Gauge("callscope_ingest_queue_records", "Records handed to the Kafka client and not yet delivered")
_kafka_trouble = Counter("callscope_ingest_kafka_trouble_total", "Errors the Kafka client reported on its own account")


_webrtc_peers = Gauge("callscope_webrtc_peers", "WebRTC peers, connected or connecting")
_webrtc_packets = Counter(
    "callscope_webrtc_packets_total",
    "RTP packets by what became of them: taken, late (or twice), malformed, stray (of another source), shed (no room)",
    ["fate"],
)


def gateway_listening(url: str) -> None:
    """The gateway accepts connections; the supervisor waits for this line."""
    _ingest.info("gateway listening on %s", url)


def gateway_stopping(streams: int) -> None:
    """The gateway was told to stop."""
    _ingest.info("gateway shutting down: %d streams are ended", streams)


def gateway_stopped(undelivered: int) -> None:
    """The gateway has stopped; 0 is the number to see."""
    if undelivered:
        _ingest.error("gateway stopped: %d records are not known to have reached Kafka", undelivered)
    else:
        _ingest.info("gateway stopped")


def ingest_streams_opened(streams: int, source: str) -> None:
    """Streams of one source were accepted."""
    _streams_open.labels(source).inc(streams)
    _streams.labels(source).inc(streams)


def ingest_streams_closed(streams: int, source: str) -> None:
    """Streams of one source are not received any more."""
    _streams_open.labels(source).dec(streams)


def ingest_stream_started(stream: str, encoding: str, rate_hz: int) -> None:
    """A stream began."""
    _ingest.info("stream started: %s (%s, %d Hz)", stream, encoding, rate_hz)


def ingest_stream_ended(stream: str, duration_s: float, reason: str) -> None:
    """A stream ended."""
    _ingest.info("stream ended: %s after %.2f s of audio: %s", stream, duration_s, reason)


def ingest_audio(seconds: float) -> None:
    """A record of audio was handed to Kafka."""
    _audio_seconds.inc(seconds)


def ingest_resumed(stream: str) -> None:
    """A client came back and goes on with its stream."""
    _resumed.inc()
    _ingest.info("stream resumed: %s", stream)


def ingest_held_back() -> None:
    """A connection that sends more than it may is read more slowly."""
    _held_back.inc()


def ingest_gap(seconds: float, reason: str) -> None:
    """Audio is missing; `reason` is "lost", "discarded" or "paused"."""
    _missing_seconds.labels(reason).inc(seconds)


def ingest_error(code: int, peer: str, reason: str) -> None:
    """A connection was closed with an error."""
    _ingest_errors.labels(str(code)).inc()
    _ingest.warning("connection from %s closed with %d: %s", peer, code, reason)


def media_stream_ended(source: str, call_id: str, late: int, unheeded: int, unseen: int) -> None:
    """A stream of numbered messages is over; `unseen` of them never came."""
    _late_chunks.labels(source).inc(late)
    _unheeded_messages.labels(source).inc(unheeded)
    if late or unseen:
        _ingest.warning("%s stream of %s: %d chunks came too late, %d messages never", source, call_id, late, unseen)


def ingest_probe(source: str, peer: str) -> None:
    """A client tried the connection; nothing came of it."""
    _probes.labels(source).inc()
    _ingest.info("connection probe from %s (%s)", peer, source)


def ingest_client_error(source: str, peer: str, code: int, message: str) -> None:
    """A client met an error on its side and told us."""
    _client_errors.labels(source, str(code)).inc()
    _ingest.warning("client at %s (%s) reports error %d: %s", peer, source, code, message)


def ingest_reconnected(stream: str, seconds: float) -> None:
    """A source came back on another connection, after so long."""
    _ingest.info("stream goes on over another connection: %s after %.2f s", stream, seconds)


def ingest_call_refused(status: str, peer: str, reason: str) -> None:
    """A gRPC call ended with a status other than OK; counted beside the close codes."""
    _ingest_errors.labels(status).inc()
    _ingest.warning("gRPC call from %s ended with %s: %s", peer, status, reason)


def ingest_call_failed(peer: str, error: BaseException) -> None:
    """A fault of our own ended a gRPC call."""
    _ingest_errors.labels("INTERNAL").inc()
    _ingest.error("gRPC call from %s failed", peer, exc_info=error)


def ingest_results_dropped(count: int) -> None:
    """Interim results gave way in the full queue of a gRPC call."""
    _results_dropped.inc(count)


def ingest_result_unreadable(topic: str, partition: int, offset: int, reason: str) -> None:
    """A result for a gRPC call was skipped."""
    _results_unreadable.labels(topic).inc()
    _ingest.error("result skipped: %s partition %d offset %d: %s", topic, partition, offset, reason)


def ingest_results_unread(error: BaseException) -> None:
    """The result topics are not read any more: gRPC calls get no results until the gateway is started anew."""
    _ingest.error("results for gRPC calls are not read any more", exc_info=error)


def ingest_keys_not_fetched(issuer: str, reason: str) -> None:
    """The keys of an issuer of tokens could not be had."""
    _ingest.warning("keys of %s cannot be fetched: %s", issuer, reason)


def ingest_audio_shed(source: str, size: int) -> None:
    """A piece of a source that cannot be slowed down was discarded, because Kafka does not keep up."""
    _shed_bytes.labels(source).inc(size)


def ingest_delivery_failed(topic: str, key: str, reason: str) -> None:
    """Kafka did not take a record, after the producer's own retries."""
    _delivery_failures.labels(topic).inc()
    _ingest.error("record not delivered: %s, key %s: %s", topic, key, reason)


def ingest_admission(admits: bool, lag_ms: float) -> None:
    """New streams are refused from now on because of the workers' lag, or taken again."""
    _admitting.set(admits)
    if admits:
        _ingest.info("new streams are taken again: the workers are %.0f ms behind", lag_ms)
    else:
        _ingest.warning("new streams are refused: a worker is %.0f ms behind", lag_ms)


def ingest_workers_unheard(error: BaseException) -> None:
    """What workers say of their lag is not read any more: new streams are taken whatever it is."""
    _ingest.error("reports of workers are not read any more; their lag does not count", exc_info=error)


def ingest_spool(size: int, records: int, age_s: float) -> None:
    """How the spool is doing."""
    _spool_bytes.set(size)
    _spool_records.set(records)
    _spool_age_s.set(age_s)


def ingest_spool_found(records: int, size: int) -> None:
    """An earlier gateway left records, which go to Kafka first."""
    _ingest.warning("spool: %d records (%d bytes) of an earlier gateway are delivered now", records, size)


def ingest_spool_orphaned(partition: int, records: int) -> None:
    """Records are for a partition that the topics do not have any more; they stay on disk."""
    _ingest.error(
        "spool: %d records are for partition %d, which there is no more; they are left alone", records, partition
    )


def ingest_spool_began(partitions: int, after_s: float) -> None:
    """Kafka does not acknowledge; or what an earlier gateway left is being delivered."""
    if partitions:
        _ingest.warning(
            "Kafka acknowledged nothing of %d partition(s) for %g s: their records go to the spool", partitions, after_s
        )


def ingest_spool_ended(seconds: float) -> None:
    """All records of the spool are with the Kafka client, and new ones go there again."""
    ingest_spool(0, 0, 0.0)
    _ingest.info("spool: empty again after %.1f s", seconds)


def ingest_spool_admission(why: str | None) -> None:
    """New streams are refused from now on, or taken again."""
    _spool_admitting.set(why is None)
    if why is None:
        _ingest.info("new streams are taken again: Kafka is back, or there is room to keep their audio")
    else:
        _ingest.warning("new streams are refused: Kafka is away, and %s", why)


def ingest_spool_refused(why: str) -> None:
    """A stream waited for room in vain."""
    _spool_refused.inc()
    _ingest.error("audio refused: Kafka is away, and %s", why)


def ingest_spool_failed(reason: str) -> None:
    """The disk did not take or give what it should; it is tried again every second."""
    _spool_failures.inc()
    _ingest.error("spool: the disk fails: %s", reason)


def ingest_spool_mended() -> None:
    """It does again."""
    _ingest.info("spool: the disk works again")


def ingest_spool_torn(where: str, size: int) -> None:
    """The end of a segment holds no records, as after a crash in the middle of a write; it is cut off."""
    _spool_torn_bytes.inc(size)
    _ingest.warning("spool: %d bytes at the end of %s are no records, and are cut off", size, where)


def ingest_spool_left(size: int) -> None:
    """The gateway ends while Kafka is away."""
    _ingest.warning("spool: %d bytes are kept; the next gateway of this machine delivers them", size)


def ingest_spool_left_over(folder: str, reason: str) -> None:
    """A folder that is not needed any more cannot be removed."""
    _ingest.warning("spool: the folder %s cannot be removed: %s", folder, reason)


def ingest_backpressure() -> None:
    """A source is held back because Kafka does not take audio as fast as it comes."""
    _backpressure.inc()


def ingest_queue(records: int) -> None:
    """How many records are under way."""
    _ingest_queue.set(records)


def ingest_kafka_trouble() -> None:
    """The Kafka client met an error that belongs to no record, such as a lost connection; it logs that, and goes on."""
    _kafka_trouble.inc()


def webrtc_peers(count: int) -> None:
    """How many WebRTC peers there are."""
    _webrtc_peers.set(count)


def webrtc_connected(peer: str, after_s: float) -> None:
    """A peer's first secure packet has come."""
    _ingest.info("WebRTC peer %s connected after %.2f s", peer, after_s)


def webrtc_packets(fate: str, count: int) -> None:
    """RTP packets have come; `fate` is one of those the metric names."""
    _webrtc_packets.labels(fate).inc(count)


# ── processors ──────────────────────────────────────────────────────────────────────────────────────────────────

_processors = logging.getLogger("callscope.processors")

_undecodable = Counter("callscope_records_undecodable_total", "Records not what their topic promises", ["topic"])
_outbox_full = Counter("callscope_outbox_full_total", "Times a worker waited because its producer's queue was full")
_engine_failures = Counter("callscope_segments_without_features_total", "Segments the feature engine failed on")
_undeliverable = Counter("callscope_results_undeliverable_total", "Results that Kafka did not take")
_withheld = Counter(
    "callscope_infer_withheld_total",
    "Windows kept from a model, because of the policy for the leg or for want of consent",
    ["model", "because"],
)
_lag_seconds = Gauge(
    "callscope_worker_lag_seconds", "How far behind live audio the worker was, at most, in the last second"
)
_shedding_level = Gauge("callscope_worker_shedding_level", "Stages that leave work out: 0 none, 1 infer, 2 extract too")
_work_shed = Counter(
    "callscope_worker_shed_total",
    "Left out under load: windows that were not judged (infer), segments without features (extract)",
    ["stage"],
)
_late_copies = Counter(
    "callscope_records_of_ended_streams_total",
    "Records passed over: their stream had ended when they came again",
    ["stage"],
)
_taken_over = Counter(
    "callscope_streams_taken_over_total", "Streams a worker went on with: rebuilt, or begun anew in the middle", ["how"]
)
_marks_written = Counter("callscope_marks_written_total", "Records written to worker.marks")
_marks_late = Counter("callscope_marks_late_total", "Times marks were put off: results were not delivered in time")
_consents = Counter("callscope_infer_consents_total", "Consent events read from call.events", ["allowed"])


def record_undecodable(topic: str, partition: int, offset: int, reason: str) -> None:
    """A record was passed over."""
    _undecodable.labels(topic).inc()
    _processors.warning("record passed over: %s partition %d offset %d: %s", topic, partition, offset, reason)


def stage_failed(stage: str, envelope: object, error: Exception) -> None:
    """A stage outside of a worker could not work on a record; in a worker, a dead letter says more."""
    _dead_letters.labels(stage, "").inc()
    _processors.error("%s: a record is left out: %s: %s", stage, type(error).__name__, error)


def outbox_full() -> None:
    """The producer's queue is full; the worker waits."""
    _outbox_full.inc()


def result_undeliverable(reason: str) -> None:
    """Kafka did not take a result, after the producer's own retries."""
    _undeliverable.inc()
    _processors.error("result not delivered: %s", reason)


def segment_without_features(stream: str, segment: int, reason: str) -> None:
    """The feature engine failed on a segment, which was given up."""
    _engine_failures.inc()
    _processors.error("no features for segment %d of %s: %s", segment, stream, reason)


def windows_withheld(model: str, because: str, windows: int) -> None:
    """Windows were kept from a model; `because` is "policy" or "consent"."""
    _withheld.labels(model, because).inc(windows)


def worker_lag(seconds: float) -> None:
    """How far behind a worker is."""
    _lag_seconds.set(seconds)


def worker_sheds(stages: Sequence[str], lag_ms: float) -> None:
    """What a worker leaves out has changed; nothing is left out where `stages` is empty."""
    _shedding_level.set(len(stages))
    if stages:
        _processors.warning("overload: %.0f ms behind; left out from now on: %s", lag_ms, ", ".join(stages))
    else:
        _processors.info("overload is over: nothing is left out any more")


def work_shed(stage: str, count: int) -> None:
    """Windows or segments were left out."""
    _work_shed.labels(stage).inc(count)


def consents_delayed(reason: str) -> None:
    """Kafka reported trouble while consents were read, which the client mends by itself."""
    _processors.warning("reading consents: %s", reason)


def consent_noted(call_id: str, leg: str, allowed: bool) -> None:
    """A speaker allowed or refused analysis."""
    _consents.labels(str(allowed).lower()).inc()
    _processors.info("analysis %s from now on: %s", "allowed" if allowed else "refused", f"{call_id}/{leg or '*'}")


def worker_kafka_trouble(reason: str) -> None:
    """The client that reads records met trouble, which it mends by itself."""
    _processors.warning("reading records: %s", reason)


def record_of_ended_stream(stage: str) -> None:
    """A record came again after its stream's end."""
    _late_copies.labels(stage).inc()


def partitions_taken_over(partitions: int, streams: int, seconds: float) -> None:
    """A worker has read the marks of its partitions; their records follow."""
    _processors.info("taken over: %d partitions with %d running streams (%.2f s)", partitions, streams, seconds)


def stream_rebuilt(count: int = 1) -> None:
    """Streams are gone on with as if nothing had happened."""
    _taken_over.labels("rebuilt").inc(count)


def stream_not_rebuilt(stream: str, reason: str) -> None:
    """A stream is begun anew in its middle: what was known of it is lost."""
    _taken_over.labels("anew").inc()
    _processors.warning("begun anew in the middle: %s: %s", stream, reason)


def mark_unreadable(partition: int, offset: int, reason: str) -> None:
    """A record of worker.marks was passed over."""
    _processors.warning("mark passed over: partition %d offset %d: %s", partition, offset, reason)


def marks_written(count: int) -> None:
    """Marks were acknowledged by Kafka."""
    _marks_written.inc(count)


def marks_late() -> None:
    """Results were not delivered in time to say how far the worker is."""
    _marks_late.inc()


def worker_starting(wiring: str) -> None:
    """A worker is about to join its group."""
    _processors.info("worker starting: %s", wiring)


def worker_ready(wiring: str, partitions: int) -> None:
    """A worker has partitions and reads."""
    _processors.info("worker ready: %s, %d partitions", wiring, partitions)


# ── sinks ───────────────────────────────────────────────────────────────────────────────────────────────────────

_sinks = logging.getLogger("callscope.sinks")

_sink_subscribers = Gauge("callscope_sink_subscribers", "Subscribers connected now")
_sink_running_calls = Gauge("callscope_sink_running_calls", "Calls running now")
_sink_sent = Counter("callscope_sink_messages_sent_total", "Messages written to subscribers", ["type"])
_sink_dropped = Counter("callscope_sink_messages_dropped_total", "Interim results slow subscribers did not get")
_sink_too_slow = Counter("callscope_sink_subscribers_too_slow_total", "Subscribers cut off because they fell behind")
_sink_refused = Counter("callscope_sink_refused_total", "Connections and requests refused", ["code"])
_sink_duplicates = Counter("callscope_sink_duplicates_total", "Records already seen, passed to nobody")
_sink_unreadable = Counter("callscope_sink_records_unreadable_total", "Records that could not be read", ["topic"])
_sink_resumed = Counter(
    "callscope_sink_subscribers_resumed_total", "Subscribers that came back and got what they missed"
)
_sink_latency = Histogram(
    "callscope_sink_latency_seconds",
    "From the arrival of the last audio a result depends on to the subscriber's socket",
    ["type"],
    buckets=LATENCY_BUCKETS_S,
)


def dashboard_ready(address: str) -> None:
    """The sink reads the topics and takes subscribers."""
    _sinks.info("dashboard at %s", address)


def sink_stopping() -> None:
    """The sink was asked to end."""
    _sinks.info("sink stopping")


def subscriber_joined(peer: str) -> None:
    """A subscriber connected."""
    _sink_subscribers.inc()
    _sinks.info("subscriber connected: %s", peer)


def subscriber_left(peer: str, code: int | None, sent: int) -> None:
    """A subscriber is gone."""
    _sink_subscribers.dec()
    _sinks.info("subscriber gone: %s, close code %s after %d messages", peer, code, sent)


def subscriber_refused(peer: str, code: str, reason: str) -> None:
    """A connection or a request could not be served."""
    _sink_refused.labels(code).inc()
    _sinks.warning("subscriber refused: %s: %s", peer, reason)


def subscriber_too_slow(peer: str) -> None:
    """A subscriber fell so far behind that final results would be lost."""
    _sink_too_slow.inc()
    _sinks.warning("subscriber too slow, cut off: %s", peer)


def result_pushed(kind: str, latency_s: float | None) -> None:
    """A message was written to a subscriber's socket."""
    _sink_sent.labels(kind).inc()
    if latency_s is not None:
        _sink_latency.labels(kind).observe(latency_s)


def results_dropped(count: int) -> None:
    """Interim results gave way in full queues."""
    _sink_dropped.inc(count)


def duplicate_dropped() -> None:
    """A record came that was seen before."""
    _sink_duplicates.inc()


def record_unreadable(topic: str) -> None:
    """A record was skipped; its dead letter says more."""
    _sink_unreadable.labels(topic).inc()


def subscriber_resumed(partitions: int, seconds: float) -> None:
    """A subscriber that came back has what it missed."""
    _sink_resumed.inc()
    _sinks.info("subscriber resumed: %d partitions were read back in %.2f s", partitions, seconds)


def running_calls(count: int) -> None:
    """How many calls run."""
    _sink_running_calls.set(count)


# ── broker ──────────────────────────────────────────────────────────────────────────────────────────────────────

_broker = logging.getLogger("callscope.broker")


def broker_started(bootstrap: str, pid: int, seconds: float) -> None:
    """The embedded Kafka answers."""
    _broker.info("embedded Kafka answers at %s after %.1f s (Java is process %d)", bootstrap, seconds, pid)


def broker_stopped(bootstrap: str) -> None:
    """The embedded Kafka has ended, as it was told."""
    _broker.info("embedded Kafka at %s has ended", bootstrap)


__all__ = ["LATENCY_BUCKETS_S", "Counter", "Gauge", "Histogram", "configure_logging"]
