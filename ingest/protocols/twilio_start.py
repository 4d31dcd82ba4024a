"""The `start` message of Twilio Media Streams and of the platforms that speak its dialect: who, what call, what audio.

============ ======================= ========================== ==========================
platform     call, and recognised by encodings                  byte order of 16-bit audio
============ ======================= ========================== ==========================
Twilio       start.callSid           mu-law
SignalWire   start.callSid (a)       mu-law, 16-bit             little-endian
Talkdesk     start.callSid (a)       mu-law                     little-endian
Telnyx       start.call_control_id   mu-law, A-law, 16-bit      big-endian, as RFC 2586 says
Exotel       start.call_sid          16-bit, mu-law             little-endian
Plivo        start.callId            mu-law, 16-bit             little-endian
============ ======================= ========================== ==========================

(a) Their messages are Twilio's. Account ids tell them apart: Twilio's are AC and 32 hexadecimal digits, SignalWire's
UUIDs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from callscope.errors import BadHello
from callscope.streams import is_name, name_of
from ingest.audio.framing import AudioFormat, Encoding

Vendor: TypeAlias = Literal["twilio", "talkdesk", "signalwire", "telnyx", "plivo", "exotel"]

CALL_PARAMETER: Final = "callscopeCall"
"""Custom parameter that names the call, where the platform's own id of it shall not be used."""
LEG_PARAMETERS: Final = {"inbound": "callscopeInbound", "outbound": "callscopeOutbound"}
"""Custom parameters that name the leg of a track, for calls where it is not the configured one."""
TOKEN_PARAMETER: Final = "callscopeToken"  # noqa: S105 - a name
"""Custom parameter that carries an access token; it is shown to nobody."""

_RATES_HZ: Final = (8_000, 16_000, 24_000, 44_100, 48_000)
_PARAMETERS_BYTES: Final = 32 * 1024
"""All custom parameters together; Twilio allows 500 characters each, SignalWire 99 of them."""
_TEXT_CHARACTERS: Final = 1_024
_ENCODINGS: Final[Mapping[str, Encoding]] = {
    **dict.fromkeys(("mulaw", "ulaw", "pcmu", "x-mulaw", "basic"), "mulaw"),
    **dict.fromkeys(("alaw", "pcma", "x-alaw"), "alaw"),
    **dict.fromkeys(("l16", "x-l16", "raw", "x-raw", "slin", "linear16", "pcm16", "base64"), "s16le"),
}
"""By the name without "audio/". Older Exotel accounts call their 16-bit audio "base64"."""
_TWILIO_ACCOUNT: Final = re.compile(r"AC[0-9a-f]{32}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Start:
    """What a platform said of the stream it begins.

    Attributes:
        vendor: who speaks.
        call_id: the call, as it is named here.
        stream: the platform's id of the stream; "" if it has none.
        account: the platform's id of the account; "" if it does not say.
        tracks: those that were announced; the others begin with their first audio.
        legs: the leg of each track.
        audio_format: of every track, which has one channel.
        big_endian: 16-bit samples come with their high byte first.
        token: an access token from the custom parameters.
        metadata: what shall be kept of the call.
    """

    vendor: Vendor
    call_id: str
    stream: str
    account: str
    tracks: tuple[str, ...]
    legs: Mapping[str, str]
    audio_format: AudioFormat
    big_endian: bool
    token: str | None = field(repr=False)
    metadata: Mapping[str, str]


def read_start(message: Mapping[str, Any], legs: Mapping[str, str]) -> Start:
    """What a `start` message says.

    Args:
        message: the whole message, parsed.
        legs: the leg of the track "inbound" and of "outbound", where the message does not name others.

    Raises:
        BadHello: it is from no platform that is known, or asks for what there is not.
    """
    body = message.get("start")
    if not isinstance(body, dict):
        raise BadHello('The start message has no object "start".')
    vendor, call, stream, account = _identity(message, body)
    parameters = _parameters(vendor, message, body)
    own = parameters.pop(CALL_PARAMETER, "")
    token = parameters.pop(TOKEN_PARAMETER, None)
    legs = {track: parameters.pop(name, "") or legs[track] for track, name in LEG_PARAMETERS.items()}
    for name in (*legs.values(), *([own] if own else ())):
        if not is_name(name):
            raise BadHello(f"{name[:40]!r} cannot name a call or a leg: 1 to 128 of A-Z a-z 0-9 . _ : @ + - may.")
    if legs["inbound"] == legs["outbound"]:
        raise BadHello(f"Both tracks are to be leg {legs['inbound']!r}. Give each track a leg of its own.")
    return Start(
        vendor=vendor,
        call_id=own or name_of(call),
        stream=stream,
        account=account,
        tracks=_tracks(body.get("tracks")),
        legs=legs,
        audio_format=_audio_format(body),
        big_endian=vendor == "telnyx",
        token=token,
        metadata=parameters | _told(vendor, call, stream, account, body),
    )


def track_name(said: object) -> str:
    """The track "inbound" or "outbound", which some messages call "inbound_track"; none at all means "inbound".

    Raises:
        BadHello: there is no such track.
    """
    match said:
        case "inbound" | "inbound_track" | None:
            return "inbound"
        case "outbound" | "outbound_track":
            return "outbound"
        case _:
            raise BadHello(f"There is no track {str(said)[:40]!r}: tracks are inbound and outbound.")


def _identity(message: Mapping[str, Any], body: Mapping[str, Any]) -> tuple[Vendor, str, str, str]:
    """Vendor, call, stream, account."""

    def text(*places: object) -> str:
        return next((place for place in places if isinstance(place, str)), "")[:_TEXT_CHARACTERS]

    if call := text(body.get("call_control_id")):
        return "telnyx", call, text(message.get("stream_id"), body.get("stream_id")), text(body.get("user_id"))
    if call := text(body.get("callSid")):
        account = text(body.get("accountSid"))
        stream = text(body.get("streamSid"), message.get("streamSid"))
        if _TWILIO_ACCOUNT.fullmatch(account):
            return "twilio", call, stream, account
        return "signalwire" if _UUID.fullmatch(account) else "talkdesk", call, stream, account
    if call := text(body.get("call_sid")):
        return "exotel", call, text(message.get("stream_sid"), body.get("stream_sid")), text(body.get("account_sid"))
    if call := text(body.get("callId")):
        return "plivo", call, text(body.get("streamId"), message.get("streamId")), text(body.get("accountId"))
    raise BadHello(
        "The start message names no call. It should have start.callSid (Twilio, Talkdesk, SignalWire), "
        "start.call_control_id (Telnyx), start.call_sid (Exotel) or start.callId (Plivo)."
    )


def _parameters(vendor: Vendor, message: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, str]:
    said = body.get("customParameters", body.get("custom_parameters")) or {}
    if vendor == "plivo":
        said = _extra_headers(message.get("extra_headers") or body.get("extra_headers"))
    if not isinstance(said, dict):
        raise BadHello("The custom parameters are not an object of names and values.")
    parameters = {
        _printable(name): _printable(value if isinstance(value, str) else json.dumps(value))
        for name, value in said.items()
    }
    size = sum(len(name.encode()) + len(value.encode()) for name, value in parameters.items())
    if size > _PARAMETERS_BYTES:
        raise BadHello(f"The custom parameters have {size} bytes; at most {_PARAMETERS_BYTES} are taken.")
    return parameters


def _extra_headers(said: object) -> dict[str, str]:
    """Plivo's: `userId=12345;sessionId=abc`, with commas in older accounts, and `{}` where there are none."""
    if not isinstance(said, str):
        return {}
    pairs = (pair.partition("=") for pair in re.split(r"[;,]", said.strip().strip("{}")))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}


def _tracks(said: object) -> tuple[str, ...]:
    if not isinstance(said, list):
        return ()
    if "both_tracks" in said:
        return ("inbound", "outbound")
    return tuple(dict.fromkeys(track_name(track) for track in said[:8]))


def _audio_format(body: Mapping[str, Any]) -> AudioFormat:
    said = body.get("mediaFormat", body.get("media_format"))
    if not isinstance(said, dict):
        raise BadHello("The start message has no media format.")
    written = str(said.get("encoding", ""))[:64]
    name, _, rest = written.lower().removeprefix("audio/").replace("@", ";").partition(";")
    encoding = _ENCODINGS.get(name.strip())
    if encoding is None:
        raise BadHello(
            f"The audio is {written!r}, and what can be decoded is PCMU, PCMA and L16. Choose one of them on the "
            "platform's side (Telnyx: stream_codec)."
        )
    inside = re.search(r"\d+", rest)
    rate = str(said.get("sampleRate", said.get("sample_rate", inside.group() if inside else "8000")))
    if rate not in map(str, _RATES_HZ):
        raise BadHello(f"The audio has a rate of {rate[:20]!r} Hz; {', '.join(map(str, _RATES_HZ))} can be served.")
    if said.get("channels", 1) not in (1, "1"):
        raise BadHello("A track has several channels; each track should have one.")
    return AudioFormat(encoding, int(rate), 1)


def _told(vendor: Vendor, call: str, stream: str, account: str, body: Mapping[str, Any]) -> dict[str, str]:
    """What the platform says of the call; these names win over custom parameters of the same name."""
    told = {
        "platform": vendor,
        "platform_call": call,
        "platform_stream": stream,
        "platform_account": account,
        "platform_session": body.get("call_session_id"),
        "from": body.get("from"),
        "to": body.get("to"),
        "client_state": body.get("client_state"),
    }
    return {
        name: _printable(value[:_TEXT_CHARACTERS]) for name, value in told.items() if isinstance(value, str) and value
    }


def _printable(text: str) -> str:
    """Text that has a UTF-8 form: JSON can write half a surrogate pair."""
    return text.encode(errors="replace").decode()
