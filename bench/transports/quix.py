# /// script
# requires-python = ">=3.11,<3.15"
# dependencies = ["quixstreams==3.28.1"]
# ///
"""The contender quixstreams, in an environment of its own: it wants an older pydantic than the product has.

The environment is `quix.py.lock`'s; after a change above: `uv lock --script bench/transports/quix.py`.
"""

from __future__ import annotations

import json
import signal
import sys

from quixstreams import Application

from bench.transports.spec import COMMIT_S, FETCHING, LINGER_MS, Stages
from callscope import lifetime


def main() -> None:
    """Forward with one application a stage; more than one needs more than one process."""
    lifetime.end_with_parent()
    stages = Stages(**json.loads(sys.argv[1]))
    [(source, target)] = stages.hops
    app = Application(
        broker_address=stages.servers,
        consumer_group=stages.group,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_S,
        auto_create_topics=False,
        consumer_extra_config=dict(FETCHING[stages.fetching]),
        producer_extra_config={"linger.ms": LINGER_MS, "enable.idempotence": True},
        loglevel="ERROR",
    )
    as_bytes = {
        "key_deserializer": "bytes",
        "value_deserializer": "bytes",
        "key_serializer": "bytes",
        "value_serializer": "bytes",
    }
    frames = app.dataframe(app.topic(source, **as_bytes))
    frames.to_topic(app.topic(target, **as_bytes))
    signal.signal(signal.SIGTERM, lambda *_: app.stop())
    app.run()


if __name__ == "__main__":
    main()
