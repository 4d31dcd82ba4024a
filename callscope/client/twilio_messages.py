"""What Twilio, and each platform that speaks its dialect, writes into a media stream's WebSocket."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

VENDORS: Final = ("twilio", "talkdesk", "signalwire", "telnyx", "plivo", "exotel")
Codec = Literal["mulaw", "alaw", "l16"]

CODECS: Final[Mapping[str, tuple[str, ...]]] = {
    "twilio": ("mulaw",),
    "talkdesk": ("mulaw",),
    "signalwire": ("mulaw", "l16"),
    "telnyx": ("mulaw", "alaw", "l16"),
    "plivo": ("mulaw", "l16"),
    "exotel": ("l16", "mulaw"),
}
"""What a platform can be told to send, its default first."""

_ACCOUNTS: Final = {
    "twilio": "AC" + "0" * 32,
    "talkdesk": "5f7d6f0e8a1b2c3d4e5f6071",
    "signalwire": "0d5a3f6e-1f0b-4c5d-9a33-5ad2b1c5b0a1",
    "telnyx": "3e6f995f-85f7-4705-9741-53b116d28237",
    "plivo": "MAXXXXXXXXXXXXXXXXXX",
    "exotel": "callscope1",
}
_NAMES: Final[Mapping[str, Mapping[Codec, str]]] = {
    "twilio": {"mulaw": "audio/x-mulaw"},
    "talkdesk": {"mulaw": "audio/x-mulaw"},
    "signalwire": {"mulaw": "audio/x-mulaw", "l16": "audio/x-l16"},
    "telnyx": {"mulaw": "PCMU", "alaw": "PCMA", "l16": "L16"},
    "plivo": {"mulaw": "audio/x-mulaw", "l16": "audio/x-l16"},
    "exotel": {"mulaw": "audio/x-mulaw", "l16": "audio/x-raw"},
}
_EPOCH_MS: Final = 1_767_225_600_000
"""Where Plivo's timestamps begin here: 2026-01-01."""


class Messages:
    """One stream's messages, in a platform's own form. Sequence and chunk numbers count by themselves.

    Args:
        vendor: one of `VENDORS`.
        call: the call's id.
        tracks: "inbound", "outbound" or both.
        codec: one of the vendor's `CODECS`.
        rate_hz: of the audio.
        parameters: custom parameters.
        account: the account's id; None: one of the vendor's form.
    """

    def __init__(
        self,
        vendor: str,
        call: str,
        tracks: tuple[str, ...],
        codec: Codec,
        rate_hz: int,
        parameters: Mapping[str, str] | None = None,
        account: str | None = None,
    ) -> None:
        self._vendor = vendor
        self._call = call
        self._stream = "MZ" + "1" * 32 if vendor == "twilio" else f"stream-of-{call}"
        self._tracks = tracks
        self._codec: Codec = codec
        self._rate_hz = rate_hz
        self._parameters = dict(parameters or {})
        self._account = account or _ACCOUNTS[vendor]
        self._sequence = 0
        self._chunks = dict.fromkeys(tracks, 0)

    def opening(self) -> list[str]:
        """The messages before the audio."""
        connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        start = json.dumps(self._enveloped("start", self._start()))
        return [start] if self._vendor == "plivo" else [json.dumps(connected), start]

    def media(self, track: str, timestamp_ms: int, data: bytes) -> str:
        """One chunk of encoded audio.

        Args:
            track: whose.
            timestamp_ms: when it begins, after the beginning of the stream.
            data: as `encoded` gives it.
        """
        self._chunks[track] += 1
        if self._vendor == "plivo":
            timestamp_ms += _EPOCH_MS
        chunk: object = self._chunks[track] if self._vendor == "plivo" else str(self._chunks[track])
        media: dict[str, object] = {
            "track": track,
            "chunk": chunk,
            "timestamp": str(timestamp_ms),
            "payload": base64.b64encode(data).decode(),
        }
        if self._vendor == "exotel":  # it has one track, and does not name it
            del media["track"]
        return json.dumps(self._enveloped("media", media))

    def dtmf(self, track: str, digit: str) -> str:
        """A key was pressed."""
        return json.dumps(self._enveloped("dtmf", {"track": f"{track}_track", "digit": digit}))

    def mark(self, name: str) -> str:
        """Audio that was sent to the platform has been played."""
        return json.dumps(self._enveloped("mark", {"name": name}))

    def closing(self) -> list[str]:
        """The messages after the audio; Plivo just closes the connection."""
        if self._vendor == "plivo":
            return []
        ids = {
            "telnyx": {"user_id": self._account, "call_control_id": self._call},
            "exotel": {"account_sid": self._account, "call_sid": self._call},
        }
        return [
            json.dumps(
                self._enveloped("stop", ids.get(self._vendor, {"accountSid": self._account, "callSid": self._call}))
            )
        ]

    def _enveloped(self, event: str, body: object) -> dict[str, object]:
        self._sequence += 1
        envelope: dict[str, object] = {"event": event}
        match self._vendor:
            case "telnyx":
                envelope |= {"sequence_number": str(self._sequence), "stream_id": self._stream}
            case "exotel":
                envelope |= {"sequence_number": str(self._sequence), "stream_sid": self._stream}
            case "plivo":
                envelope["sequenceNumber"] = self._sequence
                if event == "start":
                    envelope["extra_headers"] = ";".join(f"{k}={v}" for k, v in self._parameters.items()) or "{}"
                else:
                    envelope["streamId"] = self._stream
            case _:
                envelope |= {"sequenceNumber": str(self._sequence), "streamSid": self._stream}
        return envelope | {event: body}

    def _start(self) -> dict[str, object]:
        encoding = _NAMES[self._vendor][self._codec]
        match self._vendor:
            case "telnyx":
                return {
                    "user_id": self._account,
                    "call_control_id": self._call,
                    "call_session_id": f"session-of-{self._call}",
                    "from": "+15550100",
                    "to": "+15550199",
                    "custom_parameters": self._parameters,
                    "media_format": {"encoding": encoding, "sample_rate": self._rate_hz, "channels": 1},
                }
            case "exotel":
                return {
                    "stream_sid": self._stream,
                    "call_sid": self._call,
                    "account_sid": self._account,
                    "from": "+15550100",
                    "to": "+15550199",
                    "custom_parameters": self._parameters,
                    "media_format": {"encoding": encoding, "sample_rate": str(self._rate_hz), "bit_rate": "16"},
                }
            case "plivo":
                return {
                    "callId": self._call,
                    "streamId": self._stream,
                    "accountId": self._account,
                    "tracks": list(self._tracks),
                    "mediaFormat": {"encoding": encoding, "sampleRate": self._rate_hz},
                }
            case _:
                return {
                    "accountSid": self._account,
                    "streamSid": self._stream,
                    "callSid": self._call,
                    "tracks": list(self._tracks),
                    "customParameters": self._parameters,
                    "mediaFormat": {"encoding": encoding, "sampleRate": self._rate_hz, "channels": 1},
                }


def encoded(vendor: str, codec: Codec, pcm: NDArray[np.int16]) -> bytes:
    """Samples as a platform sends them; G.711 is written by libsndfile.

    Args:
        vendor: one of `VENDORS`.
        codec: one of the vendor's `CODECS`.
        pcm: shape (n,).
    """
    if codec == "l16":
        return pcm.astype(">i2" if vendor == "telnyx" else "<i2").tobytes()
    raw = io.BytesIO()
    soundfile.write(raw, pcm, 8_000, format="RAW", subtype="ULAW" if codec == "mulaw" else "ALAW")
    return raw.getvalue()
