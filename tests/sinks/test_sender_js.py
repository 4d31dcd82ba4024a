"""The page's sending module in headless Chromium, against a real gateway, through a proxy that makes trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Browser, Page

from schemas.v1.events_pb2 import CallEvent
from tests.callscope.client.test_sender import timeline, until
from tests.ingest.serving import Serving, serving
from tests.sinks.serving import Served
from tests.tcp_trouble import Trouble, trouble

pytestmark = pytest.mark.browser

SAMPLES = 16_000 * 4
START = """
    async ([url, options, samples]) => {
        const {Sender} = await import("/sender.js");
        const hello = {call_id: "call", leg: "customer", encoding: "s16le", rate_hz: 16000};
        const sender = window.sender = new Sender({url, hello, firstWaitMs: 20, ...options});
        window.outcome = null;
        sender.open();
        let at = 0;
        const timer = setInterval(() => {
            for (let n = 0; n < 4 && at < samples; n++, at += 320)
                sender.send(Int16Array.from({length: 320}, (_, i) => ((at + i) * 7919) % 30011 - 15000));
            if (at < samples) return;
            clearInterval(timer);
            sender.end().then((ended) => window.outcome = ended, (error) => window.outcome = error.message);
        }, 10);
    }
"""


def expected() -> np.ndarray:
    return ((np.arange(SAMPLES) * 7_919) % 30_011 - 15_000).astype(np.int16)


@pytest.fixture
async def page(chromium: Browser, served: Served) -> AsyncIterator[Page]:
    context = await chromium.new_context(bypass_csp=True)  # the gateway of a test is at a port no page knows
    page = await context.new_page()
    await page.goto(served.server.address)
    yield page
    await context.close()


async def send(page: Page, proxy: Trouble, **options: Any) -> None:
    await page.evaluate(START, [f"ws://127.0.0.1:{proxy.port}/v1/stream", options, SAMPLES])


async def outcome(page: Page) -> Any:
    await page.wait_for_function("window.outcome !== null", timeout=20_000)
    return await page.evaluate("window.outcome")


async def progress(page: Page) -> dict[str, int]:
    found: dict[str, int] = await page.evaluate("window.sender.progress")
    return found


def samples_in(gateway: Serving) -> int:
    published = gateway.publisher.of("call/customer")
    return published[-1].record.end if published else 0


async def test_cuts_lose_and_double_nothing(page: Page) -> None:
    async with serving() as gateway, trouble(gateway.port) as proxy:
        await send(page, proxy)
        for share in (0.2, 0.5):
            await until(partial(lambda least: samples_in(gateway) > least, share * SAMPLES))
            proxy.cut()
        ended = await outcome(page)
        assert ended["streams"]["call/customer"]["duration_s"] == 4.0
        assert np.array_equal(timeline(gateway.publisher), expected())
        assert (await progress(page))["reconnects"] >= 2


async def test_a_dead_connection_is_found_and_taken_over(page: Page) -> None:
    async with serving(idle_timeout_s=60.0) as gateway, trouble(gateway.port) as proxy:
        await send(page, proxy, silenceMs=300)
        await until(lambda: samples_in(gateway) > 16_000)
        proxy.black_out()
        await outcome(page)
        assert np.array_equal(timeline(gateway.publisher), expected())


async def test_what_does_not_fit_while_away_is_a_gap(page: Page) -> None:
    async with serving() as gateway, trouble(gateway.port) as proxy:
        await send(page, proxy, bufferSeconds=0.5)
        await until(lambda: samples_in(gateway) > 8_000)
        proxy.accepts = False
        proxy.cut()
        while (await progress(page))["dropped"] < samples_in(gateway) + 6_000:  # noqa: ASYNC110  # a page counts; some of it the gateway has
            await asyncio.sleep(0.05)
        proxy.accepts = True
        await outcome(page)
        heard = timeline(gateway.publisher)
        there = heard != -32_768
        wrong = there & (heard != expected())
        assert len(heard) == SAMPLES
        assert np.count_nonzero(~there) > 4_000
        assert np.count_nonzero(wrong) < 640 and not heard[wrong].any()
        assert {h.reason for h in gateway.publisher.happenings() if h.kind == CallEvent.GAP} == {"lost"}


async def test_a_token_is_sent_and_a_refusal_told(page: Page) -> None:
    access = {"tokens": [{"name": "page", "token": "a-token-of-this-page", "tenant": "shop"}]}
    async with serving(access=access) as gateway, trouble(gateway.port) as proxy:
        await send(page, proxy, token="a-token-of-this-page")
        await outcome(page)
        assert np.array_equal(timeline(gateway.publisher, "shop~call/customer"), expected())


async def test_a_hello_that_is_refused_is_not_tried_again(page: Page) -> None:
    async with serving(max_streams=1) as gateway, trouble(gateway.port) as proxy:
        await page.evaluate(
            """(url) => import("/sender.js").then(({Sender}) => {
                window.outcome = null;
                const sender = new Sender({url, hello: {call_id: "a/b", leg: "x", encoding: "s16le", rate_hz: 16000}});
                sender.open();
                sender.end().catch((error) => window.outcome = error.message);
            })""",
            f"ws://127.0.0.1:{proxy.port}/v1/stream",
        )
        assert "call_id" in await outcome(page)
        assert proxy.connections == 1
