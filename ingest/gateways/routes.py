"""Which protocol is spoken where on the WebSocket port: one line each."""

from __future__ import annotations

from typing import Final

from ingest.gateways import stream
from ingest.gateways.websocket import Route

ROUTES: Final = (Route("/v1/stream", stream.serve),)
