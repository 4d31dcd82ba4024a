"""An AudioHook client's messages, numbered as a client numbers them."""

from __future__ import annotations

import json
from typing import Any

ORGANIZATION = "11111111-1111-4111-8111-111111111111"
SESSION = "22222222-2222-4222-8222-222222222222"
CORRELATION = "33333333-3333-4333-8333-333333333333"
CONVERSATION = "44444444-4444-4444-8444-444444444444"
PARTICIPANT = "55555555-5555-4555-8555-555555555555"
NULL = "00000000-0000-0000-0000-000000000000"


def media(*channels: str, format: str = "PCMU") -> dict[str, Any]:  # the protocol's name
    return {"type": "audio", "format": format, "channels": list(channels), "rate": 8_000}


OFFER = [media("external", "internal"), media("external"), media("internal")]


def open_parameters(**changes: Any) -> dict[str, Any]:
    return {
        "organizationId": ORGANIZATION,
        "conversationId": CONVERSATION,
        "participant": {"id": PARTICIPANT, "ani": "+15550100", "aniName": "J. Doe", "dnis": "+15550199"},
        "media": OFFER,
        **changes,
    }


class Client:
    """Numbers its messages and keeps its position, samples at 8 kHz."""

    def __init__(self, session: str = SESSION) -> None:
        self.session = session
        self.seq = 0
        self.serverseq = 0
        self.position = 0

    def says(self, kind: str, parameters: dict[str, Any] | None = None, **changes: Any) -> str:
        self.seq += 1
        return json.dumps(
            {
                "version": "2",
                "type": kind,
                "id": self.session,
                "seq": self.seq,
                "serverseq": self.serverseq,
                "position": f"PT{self.position / 8_000}S",
                "parameters": parameters or {},
                **changes,
            }
        )

    def opens(self, **changes: Any) -> str:
        return self.says("open", open_parameters(**changes))

    def hears(self, text: str) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(text)
        assert message["version"] == "2"
        assert message["id"] == self.session
        assert message["seq"] == self.serverseq + 1
        self.serverseq = message["seq"]
        return message
