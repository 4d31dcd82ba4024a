"""The reader where there is nothing to read from."""

import asyncio

import pytest

from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from sinks import reader
from sinks.reader import Reader


async def test_no_broker_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_METADATA_TIMEOUT_S", 0.3)
    reading = Reader(Settings(kafka="127.0.0.1:1"), lambda records: None)
    assert not reading.is_alive()
    with pytest.raises(KafkaUnreachable, match=r"at 127\.0\.0\.1:1"):
        async with asyncio.timeout(10):
            await reading.run()
