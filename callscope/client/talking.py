"""A WebSocket on which only we talk, as telephony platforms use it: messages out, a close frame in."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from callscope.client.sending import SendRefused


async def talk(
    messages: AsyncIterable[str | bytes],
    url: str,
    *,
    subprotocol: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Send all messages, then close as a platform does at the end of a call.

    Args:
        messages: str for text, bytes for binary.
        url: "ws://127.0.0.1:7070/asterisk".
        subprotocol: what to ask for.
        headers: further headers of the handshake.

    Returns:
        How many messages were sent.

    Raises:
        SendRefused: the gateway cannot be reached, refused the call or ended it; with its reason.
    """
    offered = None if subprotocol is None else [Subprotocol(subprotocol)]
    sent = 0
    try:
        async with connect(
            url, subprotocols=offered, additional_headers=headers, compression=None, ping_timeout=None
        ) as connection:
            async for message in messages:
                await connection.send(message)
                sent += 1
    except ConnectionClosed as closed:
        said = f"{closed.rcvd.reason} ({closed.rcvd.code})" if closed.rcvd else "it was lost"
        raise SendRefused(f"The gateway closed the connection: {said}") from closed
    except InvalidStatus as refused:
        text = (refused.response.body or b"").decode(errors="replace").strip()
        raise SendRefused(f"The gateway refused the call: {text} (HTTP {refused.response.status_code})") from refused
    except InvalidHandshake as error:
        raise SendRefused(f"No WebSocket is spoken at {url}: {error}") from error
    except OSError as error:
        raise SendRefused(
            f"No gateway answers at {url} ({error.strerror or error}). Is `callscope up` running there?"
        ) from error
    return sent
