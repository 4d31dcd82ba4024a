"""What Kafka's Java is started with."""

from pathlib import Path

import pytest

from callscope.broker.broker import EmbeddedBroker
from callscope.config import Broker

QUICK = "-XX:TieredStopAtLevel=1"


@pytest.mark.parametrize(
    ("optimize", "ephemeral", "is_quick"),
    [(None, True, True), (None, False, False), (True, True, False), (False, False, True)],
)
def test_what_runs_for_long_is_compiled_thoroughly(
    tmp_path: Path, optimize: bool | None, ephemeral: bool, is_quick: bool
) -> None:
    broker = EmbeddedBroker(Broker(data_dir=tmp_path, heap="300m", optimize=optimize), ephemeral=ephemeral)
    options = broker.jvm_options()
    assert (QUICK in options) == is_quick
    assert "-Xmx300m" in options
