"""The follower where there is nothing to read from."""

import asyncio

import pytest

from callscope import following
from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from callscope.following import Follower


async def test_no_broker_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_METADATA_TIMEOUT_S", 0.3)
    reading = Follower(Settings(kafka="127.0.0.1:1"), ["voice.activity"], lambda records: None, name="test")
    assert not reading.is_alive()
    with pytest.raises(KafkaUnreachable, match=r"at 127\.0\.0\.1:1"):
        async with asyncio.timeout(10):
            await reading.run()
