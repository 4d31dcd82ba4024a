"""Which protocol is spoken where on the WebSocket port: one line each."""

from __future__ import annotations

from typing import Final

from ingest.gateways import audiohook, audiohook_access, chan_websocket, listening, raw_l16, registering, stream, twilio
from ingest.gateways.websocket import Route

ROUTES: Final = (
    Route("/v1/stream", stream.serve),
    Route("/twilio", twilio.serve, twilio.admit),
    Route("/audiohook", audiohook.serve, audiohook_access.admit),
    Route(chan_websocket.PATH, chan_websocket.serve, listening.admit, (chan_websocket.SUBPROTOCOL,)),
    Route(registering.PATH, None, listening.admit, answer=registering.answer),
    *raw_l16.ROUTES,
)
