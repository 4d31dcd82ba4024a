"""The WebRTC listener, if the settings want one. aiohttp and aiortc are imported only then."""

from __future__ import annotations

import logging

from callscope.errors import ConfigError
from ingest.gateways.gate import Gate, Listener


async def listen(gate: Gate) -> Listener | None:
    """Open the port for offers; None where no port is configured.

    Raises:
        ConfigError: the port cannot be had.
    """
    settings = gate.settings.ingest
    if settings.webrtc.port is None:
        return None
    from ingest.gateways.whip import WhipListener

    for library in ("aioice", "aiortc", "aiohttp"):
        logging.getLogger(library).setLevel(logging.ERROR)  # peers that come, go and fail are told of by us
    listener = WhipListener(gate)
    try:
        await listener.start(settings.webrtc.port)
    except OSError as error:
        raise ConfigError(
            f"The gateway cannot listen for WebRTC offers on {settings.host}:{settings.webrtc.port}: "
            f"{error.strerror or error}. Set CALLSCOPE_INGEST__WEBRTC__PORT to a free port (0 picks one)."
        ) from error
    return listener
