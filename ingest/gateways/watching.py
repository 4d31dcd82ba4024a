"""A connection is served by two tasks: one reads it, the other watches over it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def receive_and_watch(receiving: Coroutine[Any, Any, None], watching: Coroutine[Any, Any, None]) -> None:
    """Receive until the end; both have ended when this returns.

    Args:
        receiving: returns when the source has said that this was all.
        watching: raises when something is wrong; if it returns, the rest is still received.

    Raises:
        Exception: what either of them raised first.
    """
    receive, watch = asyncio.create_task(receiving), asyncio.create_task(watching)
    try:
        await asyncio.wait((receive, watch), return_when=asyncio.FIRST_COMPLETED)
        if not receive.done():
            await watch
        await receive
    finally:
        receive.cancel()
        watch.cancel()
        await asyncio.gather(receive, watch, return_exceptions=True)
