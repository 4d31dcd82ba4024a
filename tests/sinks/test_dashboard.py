"""The page "Calls" in headless Chromium, fed with made-up results."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from schemas.v1.events_pb2 import CallEvent
from schemas.v1.status_pb2 import WorkerStatus
from tests.sinks import records
from tests.sinks.log import Log
from tests.sinks.serving import Served, serving

pytestmark = pytest.mark.browser

T0_NS = 1_790_000_000_000_000_000
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture
async def page(chromium: Browser, served: Served) -> AsyncIterator[Page]:
    """The dashboard, opened and live; whatever it complains about fails the test."""
    page = await chromium.new_page(viewport={"width": 1280, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(served.server.address)
    await expect(page.locator("#connection")).to_have_attribute("data-connection", "live")
    yield page
    assert complaints == []


def call(page: Page, call_id: str = "c1") -> Locator:
    return page.locator(f'[data-call="{call_id}"]')


def light(page: Page, leg: str, call_id: str = "c1") -> Locator:
    return call(page, call_id).locator(f'[data-leg="{leg}"] [data-speaking]')


async def test_a_call_appears_speaks_and_ends(page: Page, served: Served) -> None:
    await expect(page.get_by_text("callscope send FILE")).to_be_visible()

    served.publish(*records.call_started(metadata={"queue": "billing"}))
    card = call(page)
    await expect(card).to_have_attribute("data-state", "running")
    await expect(card).to_contain_text("queue: billing")
    await expect(page.get_by_text("callscope send FILE")).to_be_hidden()
    for leg in ("customer", "agent"):
        served.publish(records.level(0.0, leg=leg))
        await expect(light(page, leg)).to_have_attribute("data-speaking", "false")

    served.publish(records.speech_start(0.1), records.level(0.1, speaking=True))
    await expect(light(page, "customer")).to_have_attribute("data-speaking", "true")
    await expect(card.locator('[data-leg="customer"]')).to_contain_text("speaking")
    await expect(light(page, "agent")).to_have_attribute("data-speaking", "false")
    await expect(card.get_by_text("talk-over")).to_be_hidden()

    served.publish(records.speech_start(0.2, leg="agent"))
    await expect(light(page, "agent")).to_have_attribute("data-speaking", "true")
    await expect(card.get_by_text("talk-over")).to_be_visible()

    served.publish(records.speech_end(0.2, 1.0, leg="agent"), records.speech_end(0.1, 1.0))
    for leg in ("customer", "agent"):
        await expect(light(page, leg)).to_have_attribute("data-speaking", "false")

    served.publish(records.call_event(CallEvent.CALL_ENDED, reason="connection lost"))
    await expect(card).to_have_attribute("data-state", "ended")
    await expect(card).to_contain_text("ended: connection lost")
    served.publish(records.level(1.2, speaking=True))  # results may come after the end of the call
    await expect(card).to_have_attribute("data-state", "ended")
    await expect(light(page, "customer")).to_have_attribute("data-speaking", "false")


async def test_a_banner_says_what_is_left_out_under_load(page: Page, served: Served) -> None:
    banner = page.locator("#overload")
    await expect(banner).to_be_hidden()
    for shed in (["infer"], ["infer", "extract"]):
        served.announce(WorkerStatus(worker="w", shed=shed, since_ns=T0_NS, time_ns=T0_NS))
    await expect(banner).to_contain_text("insights while people speak and voice features are left out")
    await page.reload()
    await expect(banner).to_contain_text("Speech is still detected")
    served.announce(WorkerStatus(worker="w", since_ns=T0_NS + 1, time_ns=T0_NS + 1))
    await expect(banner).to_be_hidden()


async def test_arousal_pitch_and_latency(page: Page, served: Served) -> None:
    served.publish(*records.call_started(), records.level(0.0))
    because = "baseline: 3.2 of 5.0 s heard"
    served.publish(records.arousal(0.0, 1.0, None, unknown_because=because))
    leg = call(page).locator('[data-leg="customer"]')
    await expect(leg).to_contain_text("learning this voice: 3.2 of 5.0 s")
    served.publish(records.arousal(0.0, 1.1, 0.81), records.features(0.0, 1.1, f0_mean=36.0))
    await expect(leg).to_contain_text("0.81 ▲ raised")
    await expect(leg).to_contain_text("220 Hz")
    await expect(page.locator("#figure-latency")).to_have_text(re.compile(r"\d+ · \d+ ms"))
    await expect(page.locator("#figure-running")).to_have_text("1")


async def test_strips_are_drawn_over_media_time(page: Page, served: Served) -> None:
    served.publish(*records.call_started(legs=["customer"]))
    served.publish(*(records.level(number / 10, level_dbfs=-20.0) for number in range(300)))
    await expect(call(page)).to_contain_text("0:30")
    await page.wait_for_timeout(300)
    drawn = await page.evaluate(
        """() => {
            const canvas = document.querySelector('canvas');
            const row = canvas.getContext('2d').getImageData(0, canvas.height - 18, canvas.width, 1).data;
            const background = Array.from(row.slice(-40, -36));
            const isDrawn = (x) => background.some((value, index) => row[4 * x + index] !== value);
            return [0.1, 0.3, 0.45, 0.55, 0.7].map((share) => isDrawn(Math.round(share * canvas.width)));
        }"""
    )
    assert drawn == [True, True, True, False, False], "30 of 60 seconds"


async def test_what_callers_say_of_themselves_stays_text(page: Page, served: Served) -> None:
    await page.evaluate("document.title = 'untouched'")
    served.publish(
        *records.call_started(HOSTILE, legs=[HOSTILE], metadata={HOSTILE: HOSTILE}),
        records.level(0.0, call=HOSTILE, leg=HOSTILE),
        records.arousal(0.0, 1.0, None, call=HOSTILE, leg=HOSTILE, unknown_because=HOSTILE),
        records.call_event(CallEvent.CALL_ENDED, call=HOSTILE, reason=HOSTILE),
    )
    card = page.locator("article")
    await expect(card).to_have_attribute("data-state", "ended")
    await expect(card.locator("h2")).to_have_text(HOSTILE)
    await page.wait_for_timeout(1_200)
    assert await page.locator("article img, article script").count() == 0
    assert "owned" not in await page.title()


async def test_prototype_names_are_ordinary_ids(page: Page, served: Served) -> None:
    for name in ("__proto__", "constructor", "toString"):
        served.publish(
            *records.call_started(name, legs=[name], metadata={name: "x"}), records.level(0, call=name, leg=name)
        )
        await expect(call(page, name)).to_have_attribute("data-state", "running")


async def test_a_page_opened_later_knows_the_calls_that_run(chromium: Browser, served: Served) -> None:
    served.publish(*records.call_started(metadata={"queue": "billing"}), records.level(5.0))
    page = await chromium.new_page()
    await page.goto(served.server.address)
    await expect(call(page)).to_contain_text("queue: billing")
    await expect(call(page).locator("[data-leg]")).to_have_count(2)


async def test_it_comes_back_after_the_server_did(chromium: Browser) -> None:
    async with serving() as first:
        port = first.server.port
        page = await chromium.new_page()
        await page.goto(first.server.address)
        await expect(page.locator("#connection")).to_have_attribute("data-connection", "live")
        first.publish(*records.call_started("old"), records.speech_start(0.0, call="old"))
        await expect(light(page, "customer", "old")).to_have_attribute("data-speaking", "true")
    await expect(page.locator("#connection")).to_have_attribute("data-connection", "reconnecting")
    await expect(light(page, "customer", "old")).to_have_attribute("data-speaking", "false")
    async with serving(port=port) as second:
        second.publish(*records.call_started("new"), records.level(0.0, call="new"))
        await expect(page.locator("#connection")).to_have_attribute("data-connection", "live", timeout=20_000)
        await expect(call(page, "new")).to_have_attribute("data-state", "running")
        await expect(call(page, "old")).to_have_attribute("data-state", "ended")


async def test_what_happened_during_a_break_is_known_after_it(chromium: Browser) -> None:
    log = Log()
    async with serving(log=log) as first:
        port = first.server.port
        page = await chromium.new_page()
        await page.goto(first.server.address)
        await expect(page.locator("#connection")).to_have_attribute("data-connection", "live")
        first.publish(*records.call_started(), records.speech_start(0.0))
        await expect(light(page, "customer")).to_have_attribute("data-speaking", "true")
    log.append(records.call_event(CallEvent.CALL_ENDED, reason="the caller hung up"))
    async with serving(port=port, log=log):
        await expect(page.locator("#connection")).to_have_attribute("data-connection", "live", timeout=20_000)
        await expect(call(page)).to_contain_text("ended: the caller hung up")


@pytest.mark.parametrize("width", [360, 768, 1_600])
async def test_nothing_sticks_out_sideways(page: Page, served: Served, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 740})
    long = "a-very-long-identifier-without-any-place-to-break-" * 3
    served.publish(*records.call_started(long, legs=["customer", long], metadata={long: long}))
    for leg in ("customer", long):
        served.publish(
            records.speech_start(0.0, call=long, leg=leg), records.arousal(0.0, 1.0, 0.9, call=long, leg=leg)
        )
    await expect(page.locator("article").get_by_text("talk-over")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_call_is_found_by_its_metadata(page: Page, served: Served) -> None:
    for number in range(8):
        queue = {"queue": "repairs" if number == 3 else "sales"}
        served.publish(*records.call_started(f"c{number}", metadata=queue), records.level(0.0, call=f"c{number}"))
    await page.get_by_placeholder("Find a call").fill("REPAIRS")
    await expect(page.locator("article:visible")).to_have_count(1)
    await expect(call(page, "c3")).to_be_visible()
