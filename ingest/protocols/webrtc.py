"""WebRTC without sockets: what an offer asks for, what a trickled fragment says, and RTP packets to events.

Offer and answer travel as WHIP has it (RFC 9725): `POST` of an SDP offer, answered with 201, a `Location` and the SDP
answer; `PATCH` of an SDP fragment (RFC 8840) adds candidates; `DELETE` ends it. Which call and which legs it is stands
in the query.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from callscope.errors import BadAudio, BadOffer
from callscope.streams import StreamId, is_name
from ingest.audio.framing import AudioFormat
from ingest.audio.opus import RATE_HZ, packet_samples, quiet
from ingest.protocols.events import Audio, Missing, Opened
from ingest.protocols.jitter import Hole, JitterBuffer, Packet, Placed, Quiet

SOURCE: Final = "webrtc"
MAX_SDP_BYTES: Final = 64 * 1024
MAX_CANDIDATES: Final = 64
"""Of one peer, in the offer and trickled."""
MAX_LEGS: Final = 2
_METADATA: Final = "metadata."
_KNOWN: Final = frozenset({"call_id", "leg", "legs", "token"})
_CANDIDATE: Final = re.compile(r"candidate:(\S+ [12] [A-Za-z]+ \d{1,10} \S+ \d{1,5} typ [a-z]+(?: \S+)*)")


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a PATCH says.

    Attributes:
        username: the ICE session it is about; "" where it does not say.
        candidates: media id and candidate ("842163049 1 udp 1677729535 ...") of each.
        is_end: no more will come.
    """

    username: str
    candidates: tuple[tuple[str, str], ...]
    is_end: bool


def read_query(query: Sequence[tuple[str, str]]) -> tuple[Opened, ...]:
    """What the address asks for: one source per leg, because each track has a timeline of its own.

    Args:
        query: names and values: `call_id`, `leg` or `legs` (names with commas between), `metadata.<name>`.

    Raises:
        BadOffer: something is missing, twice, unknown, or may not be.
    """
    values = dict(query)
    if len(values) != len(query):
        raise BadOffer(
            "The address says something twice. It takes call_id, leg or legs, and metadata.<name>, once each."
        )
    metadata = {name.removeprefix(_METADATA): value for name, value in query if name.startswith(_METADATA)}
    if unknown := [name for name in values if name not in _KNOWN and not name.startswith(_METADATA)]:
        raise BadOffer(f"The address says {unknown[0][:64]!r}, which means nothing here; call_id, leg or legs do.")
    if ("leg" in values) == ("legs" in values):
        raise BadOffer("Name the sound in the address either with leg=customer or with legs=customer,agent.")
    legs = values["legs"].split(",") if "legs" in values else [values["leg"]]
    call_id = values.get("call_id", "")
    if not all(is_name(name) for name in (call_id, *legs)):
        raise BadOffer("call_id and the legs are each 1 to 128 of A-Z a-z 0-9 . _ : @ + - and call_id must be given.")
    if not len(set(legs)) == len(legs) <= MAX_LEGS:
        raise BadOffer(f"One or two different legs can come over one connection, not {len(legs)}.")
    if len(metadata) > 32 or any(not 1 <= len(n) <= 64 or len(v) > 256 for n, v in metadata.items()):
        raise BadOffer("At most 32 metadata, names of 1 to 64 characters, values of at most 256.")
    audio_format = AudioFormat("opus", RATE_HZ, 1)
    return tuple(Opened((StreamId(call_id, leg),), audio_format, SOURCE, metadata) for leg in legs)


def check_offer(sdp: str, legs: int) -> None:
    """Nothing, if the offer is one that can be answered: so many tracks of Opus that the peer sends, and nothing else.

    Args:
        sdp: the offer.
        legs: how many the address names.

    Raises:
        BadOffer: it is not.
    """
    if len(sdp.encode(errors="replace")) > MAX_SDP_BYTES:
        raise BadOffer(f"The offer is longer than {MAX_SDP_BYTES} bytes.")
    head, *media = re.split(r"(?m)^m=", sdp)
    if not head.startswith("v=0"):
        raise BadOffer("The offer is not SDP: it does not begin with v=0. Send it as application/sdp.")
    kinds = [section.split(" ", 1)[0] for section in media]
    if kinds != ["audio"] * legs:
        raise BadOffer(
            f"The address names {legs} leg(s), so the offer has to have as many audio tracks, not {kinds[:8]}."
        )
    for section in media:
        if not re.search(r"(?mi)^a=rtpmap:\d{1,3} opus/48000", section):
            raise BadOffer("A track of the offer has no Opus, which is the codec that is taken.")
        if re.search(r"(?m)^a=(recvonly|inactive)\s*$", section):
            raise BadOffer("A track of the offer sends nothing (recvonly or inactive). Make it sendonly.")
        both = head + section
        if not all(re.search(rf"(?m)^a={name}:\S", both) for name in ("fingerprint", "ice-ufrag", "ice-pwd")):
            raise BadOffer("The offer lacks a=fingerprint, a=ice-ufrag or a=ice-pwd, which WebRTC needs.")
        if not re.search(r"(?m)^a=mid:\S{1,64}\s*$", section):
            raise BadOffer("A track of the offer has no a=mid.")
    if len(re.findall(r"(?m)^a=candidate:", sdp)) > MAX_CANDIDATES:
        raise BadOffer(f"The offer has more than {MAX_CANDIDATES} candidates.")
    if legs > 1 and not re.search(r"(?m)^a=group:BUNDLE \S+ \S", head):
        raise BadOffer("Two tracks have to be bundled on one transport (a=group:BUNDLE).")


def read_fragment(text: str) -> Fragment:
    """What a trickled fragment says.

    Raises:
        BadOffer: it is too long, has too many candidates, or one that is none.
    """
    if len(text.encode(errors="replace")) > MAX_SDP_BYTES:
        raise BadOffer(f"The fragment is longer than {MAX_SDP_BYTES} bytes.")
    username, mid, is_end = "", "", False
    candidates: list[tuple[str, str]] = []
    for line in text.splitlines():
        name, _, value = line.strip().partition(":")
        if name == "a=ice-ufrag":
            username = value
        elif name == "a=mid":
            mid = value
        elif name == "a=end-of-candidates":
            is_end = True
        elif name == "a=candidate":
            found = _CANDIDATE.fullmatch(f"candidate:{value}")
            if found is None:
                raise BadOffer(f"This is no ICE candidate: {value[:80]!r}.")
            candidates.append((mid, found[1]))
    if len(candidates) > MAX_CANDIDATES:
        raise BadOffer(f"The fragment has more than {MAX_CANDIDATES} candidates.")
    return Fragment(username, tuple(candidates), is_end)


class RtpTrack:
    """One track: RTP packets in, events out, in the order of the sound.

    Args:
        leg: whose sound it is.
        delay_s: how long a packet waits at most for those that should have come before it.

    Attributes:
        malformed: packets that were no Opus; their place becomes a hole.
    """

    def __init__(self, leg: str, delay_s: float) -> None:
        self.leg = leg
        self.malformed = 0
        self._jitter = JitterBuffer(RATE_HZ, delay_s)

    @property
    def due_s(self) -> float | None:
        """When to call `release`; None where nothing waits."""
        return self._jitter.due_s

    @property
    def late(self) -> int:
        """Packets that came too late, or twice."""
        return self._jitter.late

    def receive(self, sequence: int, timestamp: int, payload: bytes, now_s: float) -> list[Audio | Missing]:
        """Take an RTP packet in.

        Args:
            sequence: RTP's sequence number.
            timestamp: RTP's timestamp, 48 kHz (RFC 7587 section 4.1).
            payload: one Opus packet.
            now_s: when it came, seconds on a clock that never goes back.
        """
        try:
            samples = packet_samples(payload)
        except BadAudio:
            self.malformed += 1
            return self.release(now_s)
        return self._events(self._jitter.push(Packet(sequence, timestamp, samples, payload), now_s))

    def release(self, now_s: float) -> list[Audio | Missing]:
        """What has waited long enough."""
        return self._events(self._jitter.release(now_s))

    def flush(self) -> list[Audio | Missing]:
        """What still waits, at the end."""
        return self._events(self._jitter.flush())

    def _events(self, placed: list[Placed]) -> list[Audio | Missing]:
        events: list[Audio | Missing] = []
        for item in placed:
            match item:
                case Packet(payload=payload):
                    events.append(Audio(payload, self.leg))
                case Quiet(samples):
                    packets = quiet(samples)
                    events += [Audio(packet, self.leg) for packet in packets]
                    if rest := samples - sum(map(packet_samples, packets)):
                        events.append(Missing(rest, "lost", self.leg))
                case Hole(samples, reason):
                    events.append(Missing(samples, reason, self.leg))
        return events
