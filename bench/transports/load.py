"""The two ends of a run, each a process of its own: one sends frames at an even pace, the other reads what comes out.

A record is 640 bytes, as 20 ms of audio is, and begins with its number and the moment it was handed to the producer.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from array import array

import numpy as np
from confluent_kafka import TopicPartition

from bench.transports.spec import PARTITIONS, Load
from callscope import kafka, lifetime
from callscope.clock import monotonic, wall_ns
from callscope.config import load as load_settings
from callscope.topics import partition_of

STREAMS = 100
RECORD_BYTES = 640
_HEAD = struct.Struct("<qq")
_PADDING = bytes(RECORD_BYTES - _HEAD.size)
_TICK_S = 0.01
"""Between two hand-overs of what has come due, as a gateway's flush. librdkafka sends a request a partition: with 1 ms
the broker spends a core on this hop alone, and two cores are full before the stages have done anything."""
PROBE = -1
"""Number of the records that only ask whether the stages run."""


def record(number: int) -> bytes:
    """A record's value, stamped now."""
    return _HEAD.pack(number, wall_ns()) + _PADDING


def send(load: Load) -> None:
    """Send at an even pace; says "steady" and "done" on standard output when these moments come."""
    producer = kafka.producer(load_settings(kafka=load.servers))
    calls = [f"call-{number:03}" for number in range(STREAMS // 2)]
    where = [(f"{call}/{leg}", partition_of(call, PARTITIONS)) for leg in ("agent", "customer") for call in calls]
    warm_up = load.rate * load.warm_up_s
    total = warm_up + load.rate * load.seconds
    sent, began = 0, monotonic()
    while sent < total:
        due = min(total, int((monotonic() - began) * load.rate) + 1)
        for number in range(sent, due):
            if number == warm_up:
                print("steady", flush=True)
            key, partition = where[number % STREAMS]
            producer.produce(load.first, record(number), key, partition)
        sent = due
        producer.poll(0)
        time.sleep(_TICK_S)
    print("done", flush=True)
    producer.flush(10)


def receive(load: Load) -> None:
    """Read until everything is here or standard input ends; says what came of the steady part, as JSON."""
    told_to_stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told_to_stop.set()), daemon=True).start()
    warm_up = load.rate * load.warm_up_s
    total = warm_up + load.rate * load.seconds
    sent_ns, arrived_ns = (array("q", bytes(8 * total)) for _ in range(2))
    received = duplicates = 0
    consumer = kafka.consumer(load_settings(kafka=load.servers))
    consumer.assign([TopicPartition(load.last, number, 0) for number in range(PARTITIONS)])
    while received < total and not told_to_stop.is_set():
        first = consumer.poll(0.1)
        if first is None:
            continue
        messages = [first, *consumer.consume(10_000, 0)]  # what is here, without waiting for more
        now = wall_ns()
        for message in messages:
            if message.error():
                raise RuntimeError(message.error().str())
            number, stamp = _HEAD.unpack_from(message.value())
            if number == PROBE:
                continue
            if arrived_ns[number]:
                duplicates += 1
                continue
            sent_ns[number], arrived_ns[number] = stamp, now
            received += 1
    consumer.close()
    sent, arrived = (np.frombuffer(column, np.int64)[warm_up:] for column in (sent_ns, arrived_ns))
    came = arrived > 0
    latency_ms = (arrived[came] - sent[came]) / 1e6
    names = ("p50_ms", "p99_ms", "max_ms")
    told: dict[str, float | None] = dict.fromkeys(names)
    if came.any():
        values = np.percentile(latency_ms, [50, 99, 100])
        told = {name: round(float(value), 1) for name, value in zip(names, values, strict=True)}
    print(json.dumps({"received": int(came.sum()), "duplicates": duplicates, **told}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        lifetime.end_with_parent()
        send(Load(**json.loads(sys.argv[2])))
    else:
        receive(Load(**json.loads(sys.argv[2])))
