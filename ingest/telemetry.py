"""Every metric and every log event of the gateway, declared once."""

from __future__ import annotations

import logging

from prometheus_client import Counter, Gauge

from callscope.logs import Seldom

_ingest = logging.getLogger("callscope.ingest")
KAFKA_CLIENT = logging.getLogger("callscope.ingest.kafka")
"""Where the gateway's librdkafka logs; by itself it would write to standard error in a format of its own."""
KAFKA_CLIENT.addFilter(Seldom())

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


def streams_opened(streams: int, source: str) -> None:
    """Streams of one source were accepted."""
    _streams_open.labels(source).inc(streams)
    _streams.labels(source).inc(streams)


def streams_closed(streams: int, source: str) -> None:
    """Streams of one source are not received any more."""
    _streams_open.labels(source).dec(streams)


def stream_started(stream: str, encoding: str, rate_hz: int) -> None:
    """A stream began."""
    _ingest.info("stream started: %s (%s, %d Hz)", stream, encoding, rate_hz)


def stream_ended(stream: str, duration_s: float, reason: str) -> None:
    """A stream ended."""
    _ingest.info("stream ended: %s after %.2f s of audio: %s", stream, duration_s, reason)


def audio(seconds: float) -> None:
    """A record of audio was handed to Kafka."""
    _audio_seconds.inc(seconds)


def resumed(stream: str) -> None:
    """A client came back and goes on with its stream."""
    _resumed.inc()
    _ingest.info("stream resumed: %s", stream)


def held_back() -> None:
    """A connection that sends more than it may is read more slowly."""
    _held_back.inc()


def gap(seconds: float, reason: str) -> None:
    """Audio is missing; `reason` is "lost", "discarded" or "paused"."""
    _missing_seconds.labels(reason).inc(seconds)


def error(code: int, peer: str, reason: str) -> None:
    """A connection was closed with an error."""
    _ingest_errors.labels(str(code)).inc()
    _ingest.warning("connection from %s closed with %d: %s", peer, code, reason)


def media_stream_ended(source: str, call_id: str, late: int, unheeded: int, unseen: int) -> None:
    """A stream of numbered messages is over; `unseen` of them never came."""
    _late_chunks.labels(source).inc(late)
    _unheeded_messages.labels(source).inc(unheeded)
    if late or unseen:
        _ingest.warning("%s stream of %s: %d chunks came too late, %d messages never", source, call_id, late, unseen)


def probe(source: str, peer: str) -> None:
    """A client tried the connection; nothing came of it."""
    _probes.labels(source).inc()
    _ingest.info("connection probe from %s (%s)", peer, source)


def client_error(source: str, peer: str, code: int, message: str) -> None:
    """A client met an error on its side and told us."""
    _client_errors.labels(source, str(code)).inc()
    _ingest.warning("client at %s (%s) reports error %d: %s", peer, source, code, message)


def reconnected(stream: str, seconds: float) -> None:
    """A source came back on another connection, after so long."""
    _ingest.info("stream goes on over another connection: %s after %.2f s", stream, seconds)


def call_refused(status: str, peer: str, reason: str) -> None:
    """A gRPC call ended with a status other than OK; counted beside the close codes."""
    _ingest_errors.labels(status).inc()
    _ingest.warning("gRPC call from %s ended with %s: %s", peer, status, reason)


def call_failed(peer: str, error: BaseException) -> None:
    """A fault of our own ended a gRPC call."""
    _ingest_errors.labels("INTERNAL").inc()
    _ingest.error("gRPC call from %s failed", peer, exc_info=error)


def results_dropped(count: int) -> None:
    """Interim results gave way in the full queue of a gRPC call."""
    _results_dropped.inc(count)


def result_unreadable(topic: str, partition: int, offset: int, reason: str) -> None:
    """A result for a gRPC call was skipped."""
    _results_unreadable.labels(topic).inc()
    _ingest.error("result skipped: %s partition %d offset %d: %s", topic, partition, offset, reason)


def results_unread(error: BaseException) -> None:
    """The result topics are not read any more: gRPC calls get no results until the gateway is started anew."""
    _ingest.error("results for gRPC calls are not read any more", exc_info=error)


def keys_not_fetched(issuer: str, reason: str) -> None:
    """The keys of an issuer of tokens could not be had."""
    _ingest.warning("keys of %s cannot be fetched: %s", issuer, reason)


def audio_shed(source: str, size: int) -> None:
    """A piece of a source that cannot be slowed down was discarded, because Kafka does not keep up."""
    _shed_bytes.labels(source).inc(size)


def delivery_failed(topic: str, key: str, reason: str) -> None:
    """Kafka did not take a record, after the producer's own retries."""
    _delivery_failures.labels(topic).inc()
    _ingest.error("record not delivered: %s, key %s: %s", topic, key, reason)


def admission(admits: bool, lag_ms: float) -> None:
    """New streams are refused from now on because of the workers' lag, or taken again."""
    _admitting.set(admits)
    if admits:
        _ingest.info("new streams are taken again: the workers are %.0f ms behind", lag_ms)
    else:
        _ingest.warning("new streams are refused: a worker is %.0f ms behind", lag_ms)


def workers_unheard(error: BaseException) -> None:
    """What workers say of their lag is not read any more: new streams are taken whatever it is."""
    _ingest.error("reports of workers are not read any more; their lag does not count", exc_info=error)


def spool(size: int, records: int, age_s: float) -> None:
    """How the spool is doing."""
    _spool_bytes.set(size)
    _spool_records.set(records)
    _spool_age_s.set(age_s)


def spool_found(records: int, size: int) -> None:
    """An earlier gateway left records, which go to Kafka first."""
    _ingest.warning("spool: %d records (%d bytes) of an earlier gateway are delivered now", records, size)


def spool_orphaned(partition: int, records: int) -> None:
    """Records are for a partition that the topics do not have any more; they stay on disk."""
    _ingest.error(
        "spool: %d records are for partition %d, which there is no more; they are left alone", records, partition
    )


def spool_began(partitions: int, after_s: float) -> None:
    """Kafka does not acknowledge; or what an earlier gateway left is being delivered."""
    if partitions:
        _ingest.warning(
            "Kafka acknowledged nothing of %d partition(s) for %g s: their records go to the spool", partitions, after_s
        )


def spool_ended(seconds: float) -> None:
    """All records of the spool are with the Kafka client, and new ones go there again."""
    spool(0, 0, 0.0)
    _ingest.info("spool: empty again after %.1f s", seconds)


def spool_admission(why: str | None) -> None:
    """New streams are refused from now on, or taken again."""
    _spool_admitting.set(why is None)
    if why is None:
        _ingest.info("new streams are taken again: Kafka is back, or there is room to keep their audio")
    else:
        _ingest.warning("new streams are refused: Kafka is away, and %s", why)


def spool_refused(why: str) -> None:
    """A stream waited for room in vain."""
    _spool_refused.inc()
    _ingest.error("audio refused: Kafka is away, and %s", why)


def spool_failed(reason: str) -> None:
    """The disk did not take or give what it should; it is tried again every second."""
    _spool_failures.inc()
    _ingest.error("spool: the disk fails: %s", reason)


def spool_mended() -> None:
    """It does again."""
    _ingest.info("spool: the disk works again")


def spool_torn(where: str, size: int) -> None:
    """The end of a segment holds no records, as after a crash in the middle of a write; it is cut off."""
    _spool_torn_bytes.inc(size)
    _ingest.warning("spool: %d bytes at the end of %s are no records, and are cut off", size, where)


def spool_left(size: int) -> None:
    """The gateway ends while Kafka is away."""
    _ingest.warning("spool: %d bytes are kept; the next gateway of this machine delivers them", size)


def spool_left_over(folder: str, reason: str) -> None:
    """A folder that is not needed any more cannot be removed."""
    _ingest.warning("spool: the folder %s cannot be removed: %s", folder, reason)


def backpressure() -> None:
    """A source is held back because Kafka does not take audio as fast as it comes."""
    _backpressure.inc()


def queue(records: int) -> None:
    """How many records are under way."""
    _ingest_queue.set(records)


def kafka_trouble() -> None:
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
