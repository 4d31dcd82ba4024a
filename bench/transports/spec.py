"""What is asked of a run: how many records, through which topics, fetched how. Read by every process of it."""

from __future__ import annotations

from dataclasses import dataclass

PARTITIONS = 8
LINGER_MS = 2
COMMIT_S = 1.0
FETCHING = {
    "unpaced": {"fetch.wait.max.ms": 10, "fetch.min.bytes": 1},
    "paced": {"fetch.wait.max.ms": 10, "fetch.min.bytes": 1 << 20},  # 10 ms of 20,000 records/s are 0.13 MB
}
"""The two ways of fetching, in librdkafka's words: answered as soon as there is anything, or after 10 ms."""


@dataclass(frozen=True, slots=True)
class Load:
    """What goes in and comes out.

    Attributes:
        servers: the broker.
        first: the topic that is written.
        last: the topic that is read.
        rate: records a second.
        warm_up_s: seconds at that rate before anything is counted.
        seconds: seconds that are counted.
    """

    servers: str
    first: str
    last: str
    rate: int
    warm_up_s: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Stages:
    """What a worker process does.

    Attributes:
        servers: the broker.
        group: its consumer group.
        hops: pairs of topics; every record of the first is to be forwarded to the second.
        fetching: "unpaced" or "paced".
    """

    servers: str
    group: str
    hops: list[list[str]]
    fetching: str
