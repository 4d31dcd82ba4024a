"""What tests of every package share: the session's Kafka."""

import os
from collections.abc import Iterator

import pytest

from callscope.broker import EmbeddedBroker
from callscope.config import Settings, load
from callscope.errors import DownloadFailed, JavaMissing


@pytest.fixture(scope="session")
def kafka() -> Iterator[Settings]:
    """Settings that reach one real broker, shared by the session's tests; no topics exist unless a test made them.

    Tests keep apart by call ids or topic names of their own. Where no broker can be had the test fails under CI and is
    skipped with the reason elsewhere.
    """
    broker = EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True)
    try:
        broker.start()
    except (DownloadFailed, JavaMissing) as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):  # noqa: TID251 - about the test run, not a setting
            pytest.fail(str(error))
        pytest.skip(str(error))
    try:
        yield load(kafka=broker.bootstrap)
    finally:
        broker.stop()
