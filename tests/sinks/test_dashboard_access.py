"""The dashboard where tokens are wanted, in headless Chromium."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.sinks import records
from tests.sinks.serving import serving

pytestmark = pytest.mark.browser

ACCESS = {"tokens": [{"name": "page", "token": "a-token-to-subscribe", "tenant": "shop", "scopes": ["subscribe"]}]}


async def test_a_token_behind_the_address_lets_the_page_in_and_does_not_stay_there(chromium: Browser) -> None:
    page = await chromium.new_page()
    async with serving(access=ACCESS) as served:
        await page.goto(served.server.address + "#token=a-token-to-subscribe")
        await expect(page.locator("#connection")).to_have_attribute("data-connection", "live")
        assert "token" not in page.url
        served.publish(*records.call_started("shop~c1"), *records.call_started("other~c2"))
        await expect(page.locator('[data-call="c1"]')).to_have_attribute("data-state", "running")
        assert await page.locator("[data-call]").count() == 1
        await page.reload()
        await expect(page.locator("#connection")).to_have_attribute("data-connection", "live")


async def test_without_one_the_page_says_what_is_missing(chromium: Browser) -> None:
    page = await chromium.new_page()
    async with serving(access=ACCESS) as served:
        await page.goto(served.server.address)
        await expect(page.locator("#connection-text")).to_contain_text("A token is needed")
        await expect(page.locator("#connection-text")).to_contain_text("#token=")
