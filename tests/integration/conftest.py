"""Running systems for the integration tests: gateway, workers and sink as processes, on the session's Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


@contextmanager
def unhurried(settings: Settings, *, chained: bool, workers: int | None = None) -> Iterator[System]:
    """A system that leaves nothing out and refuses nobody, however slow the machine is: its results are the audio's."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as environment:  # for its processes, not for those of other tests
            environment.setenv("CALLSCOPE_PROCESSORS__OVERLOAD__SHED", "false")
            environment.setenv("CALLSCOPE_INGEST__ADMISSION__ENABLED", "false")
            system = stack.enter_context(
                supervisor.running(
                    settings, chained=chained, ephemeral=True, free_ports=True, say=print, workers=workers
                )
            )
        yield system


@pytest.fixture(scope="session")
def fused(kafka: Settings) -> Iterator[System]:
    with unhurried(kafka, chained=False) as system:
        yield system


@pytest.fixture(scope="session")
def chained(kafka: Settings) -> Iterator[System]:
    """The other wiring, with a broker of its own so that its records do not mix with the first one's."""
    own = load(topics={"partitions": kafka.topics.partitions})
    with unhurried(own, chained=True) as system:
        yield system


@pytest.fixture
def call_id() -> str:
    return f"call-{uuid.uuid4().hex[:8]}"
