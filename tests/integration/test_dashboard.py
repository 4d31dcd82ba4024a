"""The dashboard in a real browser while a real call goes through the whole system."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Page, expect

from callscope.client.recording import Recording
from callscope.client.sending import send
from callscope.supervisor import System

pytestmark = [pytest.mark.integration, pytest.mark.browser]

LIGHT_CHANGES = """
    ([call, leg]) => {
        const light = document.querySelector(`[data-call="${call}"] [data-leg="${leg}"] [data-speaking]`);
        window.lights = window.lights ?? {};
        const seen = window.lights[leg] = [light.dataset.speaking];
        new MutationObserver(() => seen.push(light.dataset.speaking))
            .observe(light, {attributes: true, attributeFilter: ["data-speaking"]});
    }
"""


async def changes(page: Page, leg: str) -> list[str]:
    """What a leg's light showed, one entry a change."""
    seen: list[str] = await page.evaluate("leg => window.lights[leg]", leg)
    return [state for before, state in zip([None, *seen], seen, strict=False) if state != before]


async def test_a_call_appears_its_lights_follow_the_speech_and_it_ends(
    fused: System, demo_call: Recording, call_id: str, chromium: Browser
) -> None:
    page = await chromium.new_page(viewport={"width": 1280, "height": 800})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(fused.addresses.dashboard)
    await expect(page.locator("#connection")).to_have_attribute("data-connection", "live")

    sending = asyncio.create_task(
        send(demo_call, fused.addresses.gateway, call_id, ("customer", "agent"), limit_s=20.0)
    )
    card = page.locator(f'[data-call="{call_id}"]')
    await expect(card).to_have_attribute("data-state", "running", timeout=10_000)
    for leg in ("customer", "agent"):
        await page.evaluate(LIGHT_CHANGES, [call_id, leg])
    await sending
    await expect(card).to_have_attribute("data-state", "ended", timeout=10_000)

    # In its first 20 s the agent speaks three times and the customer twice, none of them all the time.
    for leg, least in (("agent", 3), ("customer", 2)):
        shown = await changes(page, leg)
        assert shown.count("true") >= least and shown[-1] == "false", f"{leg}: {shown}"
    assert complaints == []
