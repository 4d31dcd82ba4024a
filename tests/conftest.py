"""What tests of every package share: the session's Kafka, and a browser."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, settings
from playwright.async_api import Browser, async_playwright

from callscope.broker import EmbeddedBroker
from callscope.config import Settings, load
from callscope.errors import DownloadFailed, JavaMissing

# A script's background processes ignore Ctrl-C, and so does what they start; what these tests start shall not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long something takes is measured in bench/, not here: a busy machine is no defect.
settings.register_profile("callscope", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("callscope")

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def kafka() -> Iterator[Settings]:
    """Settings that reach one real broker, shared by the session's tests; no topics exist unless a test made them.

    Tests keep apart by call ids or topic names of their own. Where no broker can be had the test fails under CI and is
    skipped with the reason elsewhere.
    """
    broker = EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True)
    try:
        broker.start()
    except (DownloadFailed, JavaMissing) as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):  # noqa: TID251 - about the test run, not a setting
            pytest.fail(str(error))
        pytest.skip(str(error))
    try:
        yield load(kafka=broker.bootstrap)
    finally:
        broker.stop()


@asynccontextmanager
async def headless(*arguments: str) -> AsyncIterator[Browser]:
    """A headless Chromium from the system; without one the test fails under CI and is skipped elsewhere."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        reason = "no Chromium on the PATH; install Debian's package chromium"
        if os.environ.get("CI", "").lower() in ("1", "true"):  # noqa: TID251  # says where tests run
            pytest.fail(reason)
        pytest.skip(reason)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*CHROMIUM_ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """That browser."""
    async with headless() as browser:
        yield browser
