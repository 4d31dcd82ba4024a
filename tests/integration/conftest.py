"""Running systems for the integration tests: gateway, workers and sink as processes, on the session's Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from importlib.resources import as_file, files

import pytest

from callscope import supervisor
from callscope.client import recording
from callscope.client.recording import Recording
from callscope.config import Settings, load
from callscope.supervisor import System


@pytest.fixture(scope="session")
def demo_call() -> Recording:
    """The shipped call: 70 s, customer left, agent right."""
    with as_file(files("callscope.demo") / "call.ogg") as path:
        return recording.read(path)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_out() -> Iterator[None]:
    """However busy the machine is: these tests are about the results. `test_overload.py` turns it on again."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CALLSCOPE_PROCESSORS__OVERLOAD__SHED", "false")
        environment.setenv("CALLSCOPE_INGEST__ADMISSION__ENABLED", "false")
        yield


@pytest.fixture(scope="session")
def fused(kafka: Settings) -> Iterator[System]:
    with supervisor.running(kafka, chained=False, ephemeral=True, free_ports=True, say=print) as system:
        yield system


@pytest.fixture(scope="session")
def chained(kafka: Settings) -> Iterator[System]:
    """The other wiring, with a broker of its own so that its records do not mix with the first one's."""
    own = load(topics={"partitions": kafka.topics.partitions})
    with supervisor.running(own, chained=True, ephemeral=True, free_ports=True, say=print) as system:
        yield system


@pytest.fixture
def call_id() -> str:
    return f"call-{uuid.uuid4().hex[:8]}"
