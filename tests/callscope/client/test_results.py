from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callscope.client.backoff import Backoff
from callscope.client.results import NoResults, subscription
from sinks.memory import Memory
from tests.sinks import records
from tests.sinks.log import Log
from tests.sinks.serving import serving
from tests.tcp_trouble import trouble


async def take(messages: Any) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = await anext(messages)
    return message


async def test_a_subscription_survives_its_connection_and_gives_nothing_twice() -> None:
    async with serving() as served, trouble(served.server.port) as proxy:
        address = f"ws://127.0.0.1:{proxy.port}/v1/results"
        async with subscription(address, kinds=["activity"], backoff=Backoff(0.01, 0.05)) as messages:
            assert (await take(messages))["type"] == "subscribed"
            served.publish(records.level(0.0))
            assert (await take(messages))["start"] == 0.0
            proxy.cut()
            assert (await take(messages))["type"] == "subscribed"
            served.hub.memory = Memory()  # another sink may not know what the first one had passed on
            served.publish(records.level(0.0), records.level(0.1))
            assert (await take(messages))["start"] == 0.1


async def test_finals_that_were_found_during_a_break_come_after_it() -> None:
    """Also from another sink, which has only read what the first one published."""
    log = Log()
    async with serving(log=log) as first, trouble(first.server.port) as proxy:
        address = f"ws://127.0.0.1:{proxy.port}/v1/results"
        async with subscription(address, calls=["c1", "c2"], backoff=Backoff(0.01, 0.05)) as messages:
            assert (await take(messages))["type"] == "subscribed"
            first.publish(records.speech_start(1.0), records.level(1.0), records.speech_start(1.0, call="c2"))
            assert [(await take(messages))["start"] for _ in range(3)] == [1.0, 1.0, 1.0]
            proxy.accepts = False
            proxy.cut()
            first.publish(records.speech_end(1.0, 2.0), records.level(3.0), records.speech_start(9.0, call="other"))
            async with serving(log=log) as second:
                second.publish(records.speech_end(1.0, 2.5, call="c2"))
                proxy.forward_to(second.server.port)
                told = [await take(messages) for _ in range(3)]
                assert told[0]["type"] == "subscribed"
                assert {(m["kind"], m["call_id"]) for m in told[1:]} == {("speech_end", "c1"), ("speech_end", "c2")}
                second.publish(records.level(4.0))
                assert (await take(messages))["start"] == 4.0


async def test_a_refused_token_is_told_and_not_tried_again() -> None:
    access = {"tokens": [{"name": "a", "token": "a-token-to-subscribe", "scopes": ["subscribe"]}]}
    async with serving(access=access) as served:
        address = f"ws://127.0.0.1:{served.server.port}/v1/results"
        with pytest.raises(NoResults, match="refused with 401: A token is needed"):
            async with subscription(address):
                pass
        async with subscription(address, token="a-token-to-subscribe") as messages:
            assert (await take(messages))["type"] == "subscribed"


async def test_a_request_that_cannot_be_served_ends_it() -> None:
    async with serving() as served:
        async with subscription(f"ws://127.0.0.1:{served.server.port}/v1/results", kinds=["everything"]) as messages:
            assert (await take(messages))["type"] == "error"
            with pytest.raises(NoResults, match="4400"):
                await take(messages)


async def test_no_sink_says_where_it_was_looked_for() -> None:
    with pytest.raises(NoResults, match=r"No sink answers at ws://127\.0\.0\.1:1/v1/results"):
        async with subscription("ws://127.0.0.1:1/v1/results"):
            pass
