"""Sending one call and showing its results on the terminal while they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from callscope.client import results
from callscope.client.recording import Recording
from callscope.client.sending import Sending, send
from callscope.client.telling import Tally, line_of

SETTLE_S = 2.0
"""When all audio is sent and heard, and no result came for so long, there are no more."""
BEHIND_S = 30.0
"""A worker that is behind, and has not heard all of it, may be silent for so long."""
UNHEARD_S = 0.15
"""The end of a leg that no level tells of: less than an interval and a hop."""


def progress_bar(console: Console) -> Progress:
    """A bar in seconds of audio, on a terminal; nothing elsewhere."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


async def send_and_show(
    recording: Recording,
    gateway: str,
    sink: str | None,
    call_id: str,
    legs: tuple[str, ...],
    speed: float,
    console: Console,
    token: str | None = None,
) -> Tally:
    """Send a recording as one call; print its results until they are over, and what they came to.

    Args:
        recording: what to send.
        gateway: the gateway's address.
        sink: the sink's address; None shows no results.
        call_id: the call's id.
        legs: one name per channel.
        speed: 1 is real time, 0 as fast as the gateway takes it.
        console: where to print.
        token: to be let in with.

    Raises:
        SendRefused: the gateway refused the call or ended it.
        NoResults: the sink cannot be reached, or ended the subscription.
    """
    tally = Tally()
    with progress_bar(console) as bar:
        task = bar.add_task(f"sending {call_id}", total=recording.duration_s)

        def show(state: Sending) -> None:
            bar.update(task, completed=state.sent_s)

        if sink is None:
            await send(recording, gateway, call_id, legs, speed=speed, token=token, progress=show)
            return tally
        async with results.subscription(sink, calls=[call_id], token=token) as messages:
            await anext(messages)  # "subscribed": from here on nothing is missed
            sending = asyncio.create_task(
                send(recording, gateway, call_id, legs, speed=speed, token=token, progress=show)
            )
            try:
                async for message in _until_settled(messages, sending, legs, recording.duration_s):
                    tally.add(message)
                    if line := line_of(message):
                        bar.console.print(escape(line))
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    for line in tally.lines():
        console.print(line)
    return tally


async def _until_settled(
    messages: AsyncIterator[dict[str, Any]], sending: asyncio.Task[Sending], legs: tuple[str, ...], duration_s: float
) -> AsyncIterator[dict[str, Any]]:
    """Messages until all audio is sent and heard, and `SETTLE_S` have passed without one."""
    heard_s = dict.fromkeys(legs, 0.0)
    while True:
        is_heard = all(told >= duration_s - UNHEARD_S for told in heard_s.values())
        coming = asyncio.ensure_future(anext(messages))
        try:
            if not sending.done():
                await asyncio.wait({coming, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                await sending  # raises what went wrong with it
                await asyncio.wait({coming}, timeout=SETTLE_S if is_heard else BEHIND_S)
            if not coming.done():
                return
            message = await coming
        finally:
            coming.cancel()
        if message["type"] == "activity" and message["kind"] == "level":
            heard_s[message["leg"]] = message["start"] + message["duration"]
        yield message
