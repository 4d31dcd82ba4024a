"""One WebRTC peer: aiortc's connection, its packets to `ingest.protocols.webrtc`, events to the intake.

aiortc decodes what it receives behind a jitter buffer of its own, which delays everything by four packets and hides
what is lost (docs/decisions). So its receivers are never started: `_Receiver` stands in their place where the secure
transport hands out packets. That seam is internal to aiortc; the version is pinned, and a test holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import RtcpByePacket, RtcpReceiverInfo, RtcpRrPacket
from aiortc.sdp import candidate_from_sdp

from callscope.clock import monotonic, wall_ns
from callscope.config import WebRtc
from callscope.errors import BadOffer, IngestError, NotPublished
from ingest import telemetry
from ingest.audio.opus import RATE_HZ
from ingest.gateways.closing import why_failed
from ingest.protocols.events import Audio, Missing, Opened
from ingest.protocols.webrtc import MAX_CANDIDATES, Fragment, RtpTrack

if TYPE_CHECKING:
    from ingest.source import Source

_WAITING_PACKETS: Final = 500
"""10 s of packets; more come only while Kafka takes nothing, and are shed."""
_REPORT_S: Final = 1.0
_LATE_START_S: Final = 0.1
"""The second leg's time begins with the first one's; a smaller difference is that of two packets on their way."""


def ice_servers(settings: WebRtc) -> list[RTCIceServer]:
    """The STUN and TURN servers of the settings, with the credentials TURN wants."""
    credential = settings.turn_credential.get_secret_value()
    return [
        RTCIceServer(url, settings.turn_username, credential) if url.startswith("turn") else RTCIceServer(url)
        for url in settings.ice_servers
    ]


class _Receiver:
    """What the secure transport hands one track's packets to, in place of aiortc's own receiver."""

    def __init__(self, receiver: RTCRtpReceiver, leg: str, delay_s: float) -> None:
        self.core = RtpTrack(leg, delay_s)
        self.statistics = StreamStatistics(RATE_HZ)
        self.ssrc: int | None = None
        self.first_s: float | None = None
        self.last_s: float | None = None
        self.arrived_ns = 0
        self.taken = self.stray = self.shed = 0
        self.is_over = False
        self.waiting: deque[tuple[int, int, bytes, float]] = deque()
        self.wake = asyncio.Event()
        self._receiver = receiver
        self._payload_types: frozenset[int] = frozenset()

    async def receive(self, parameters: Any) -> None:
        """Called by aiortc when the transport is secure."""
        self._payload_types = frozenset(codec.payloadType for codec in parameters.codecs)
        self._receiver.transport._register_rtp_receiver(self, parameters)

    async def _handle_rtp_packet(self, packet: Any, arrival_time_ms: int) -> None:
        if self.ssrc is None:
            self.ssrc = packet.ssrc
        if packet.ssrc != self.ssrc or packet.payload_type not in self._payload_types:
            self.stray += 1
            return
        self.statistics.add(packet)
        self.last_s, self.arrived_ns = monotonic(), wall_ns()
        if self.first_s is None:
            self.first_s = self.last_s
        if len(self.waiting) >= _WAITING_PACKETS:
            self.shed += 1
            return
        self.taken += 1
        self.waiting.append((packet.sequence_number, packet.timestamp, packet.payload, self.last_s))
        self.wake.set()

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        if isinstance(packet, RtcpByePacket):
            self._handle_disconnect()

    def _handle_disconnect(self) -> None:
        self.is_over = True
        self.wake.set()

    def report(self) -> RtcpReceiverInfo | None:
        """What the sender is told once a second, by which it adapts."""
        if self.ssrc is None:
            return None
        heard = self.statistics
        return RtcpReceiverInfo(
            ssrc=self.ssrc,
            fraction_lost=heard.fraction_lost,
            packets_lost=heard.packets_lost,
            highest_sequence=heard.max_seq or 0,
            jitter=heard.jitter,
            lsr=0,
            dlsr=0,
        )


class Peer:
    """A peer from its offer to its end. `negotiate`, then `run` with opened sources, or `close`.

    Args:
        opened: one source for each of its tracks, in the order of the offer.
        settings: of WebRTC.
        idle_timeout_s: a peer that sends nothing for so long is ended.
        addresses: of this machine, for the sound; empty for all but loopback.
    """

    def __init__(
        self, opened: tuple[Opened, ...], settings: WebRtc, idle_timeout_s: float, addresses: tuple[str, ...]
    ) -> None:
        self._settings = settings
        self._idle_timeout_s = idle_timeout_s
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=ice_servers(settings)))
        self._began_s = monotonic()
        self._connected_s: float | None = None
        self._candidates = 0
        self._username = ""
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        capabilities = RTCRtpReceiver.getCapabilities("audio")
        assert capabilities is not None, "aiortc knows audio"
        opus = [codec for codec in capabilities.codecs if codec.name == "opus"]
        self._transceivers: list[RTCRtpTransceiver] = []
        self._receivers: list[_Receiver] = []
        for one in opened:
            transceiver = self._connection.addTransceiver("audio", direction="recvonly")
            transceiver.setCodecPreferences(opus)
            receiver = _Receiver(transceiver.receiver, one.streams[0].leg, settings.jitter_ms / 1_000)
            setattr(transceiver.receiver, "receive", receiver.receive)  # noqa: B010  # aiortc calls this one
            self._transceivers.append(transceiver)
            self._receivers.append(receiver)
        if addresses:
            self._gather_only(addresses)
        self._connection.on("connectionstatechange", self._on_state)
        self.name = str(opened[0].call_id)

    def _gather_only(self, addresses: tuple[str, ...]) -> None:
        """Have aioice open its sockets on these addresses; by itself it takes all but loopback."""
        wanted = list(addresses)
        for transceiver in self._transceivers:
            ice = transceiver.receiver.transport.transport._connection
            own = ice.get_component_candidates

            async def candidates(component: int, addresses: list[str], *, own: Any = own, **options: Any) -> Any:
                return await own(component=component, addresses=wanted, **options)

            setattr(ice, "get_component_candidates", candidates)  # noqa: B010  # aioice calls this one

    async def negotiate(self, sdp: str) -> str:
        """Take the offer; returns the answer, with all of this side's candidates.

        Raises:
            BadOffer: aiortc cannot make anything of it.
        """
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            answer = await self._connection.createAnswer()
        except Exception as error:  # its parser raises whatever it runs into: ValueError, KeyError, AssertionError, ...
            raise BadOffer(f"The offer cannot be answered: {type(error).__name__}: {error}") from error
        await self._connection.setLocalDescription(answer)
        remote = self._transceivers[0].receiver.transport.transport
        self._candidates = len(remote.getRemoteCandidates())
        self._username = next((line[12:].strip() for line in sdp.splitlines() if line.startswith("a=ice-ufrag:")), "")
        return str(self._connection.localDescription.sdp)

    async def add(self, fragment: Fragment) -> None:
        """Add trickled candidates.

        Raises:
            BadOffer: they are of another ICE session (restarts are not supported), too many, or belong to no track.
        """
        if fragment.username and fragment.username != self._username:
            raise BadOffer("The fragment is of another ICE session. ICE restarts are not supported: send a new offer.")
        self._candidates += len(fragment.candidates)
        if self._candidates > MAX_CANDIDATES:
            raise BadOffer(f"More than {MAX_CANDIDATES} candidates have come.")
        mids = {str(transceiver.mid) for transceiver in self._transceivers}
        ice = self._transceivers[0].receiver.transport.transport
        for mid, text in fragment.candidates:
            if mid not in mids:
                raise BadOffer(f"The fragment names a=mid:{mid[:64]}, and the offer has {sorted(mids)}.")
            with contextlib.suppress(ValueError):  # a kind of candidate aioice does not know is passed over
                await ice.addRemoteCandidate(candidate_from_sdp(text))
        if fragment.is_end:
            await ice.addRemoteCandidate(None)

    def end(self, reason: str) -> None:
        """Have `run` end."""
        if not self._ended.done():
            self._ended.set_result(reason)

    async def run(self, sources: list[Source]) -> None:
        """Take the sound until the peer goes or is told to; ends the sources.

        Args:
            sources: one per track.
        """
        pumps = [
            asyncio.create_task(self._pump(receiver, source))
            for receiver, source in zip(self._receivers, sources, strict=True)
        ]
        watch = asyncio.create_task(self._watch(sources))
        reason = "gateway error"
        try:
            ends: list[asyncio.Future[Any]] = [self._ended, watch, *pumps]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            reason = self._ended.result() if self._ended.done() else "connection closed"
            for receiver in self._receivers:
                receiver._handle_disconnect()
            if watch.done():
                watch.result()
            await asyncio.gather(*pumps)
        except IngestError as error:
            reason = why_failed(error)
            telemetry.error(error.close_code, f"WebRTC peer {self.name}", str(error))
        finally:
            for task in (watch, *pumps):
                task.cancel()
            await asyncio.gather(watch, *pumps, return_exceptions=True)
            self._count()
            for source in sources:
                with contextlib.suppress(NotPublished):  # counted where the record was lost; there is nobody to tell
                    await source.end(reason, wall_ns(), whole=False)
            await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _pump(self, receiver: _Receiver, source: Source) -> None:
        """One track's packets to the intake, until it is over and nothing waits."""
        core = receiver.core
        is_first = True
        while True:
            if not receiver.waiting and not receiver.is_over:
                receiver.wake.clear()
                due_s = core.due_s
                if due_s is None:
                    await receiver.wake.wait()
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(max(0.0, due_s - monotonic())):
                            await receiver.wake.wait()
            if is_first and receiver.first_s is not None:
                is_first = False
                late_s = receiver.first_s - min(r.first_s for r in self._receivers if r.first_s is not None)
                if late_s > _LATE_START_S:
                    await source.missing(round(late_s * RATE_HZ), "paused", receiver.arrived_ns)
            if receiver.waiting:
                events = core.receive(*receiver.waiting.popleft())
            elif receiver.is_over:
                await self._hand_in(core.flush(), source, receiver.arrived_ns)
                return
            else:
                events = core.release(monotonic())
            await self._hand_in(events, source, receiver.arrived_ns)

    async def _hand_in(self, events: list[Audio | Missing], source: Source, arrived_ns: int) -> None:
        for event in events:
            match event:
                case Audio(data):
                    await source.audio(data, arrived_ns)
                case Missing(samples, reason):
                    await source.missing(samples, reason, arrived_ns)

    async def _watch(self, sources: list[Source]) -> None:
        """Tell the sender how it is heard; find peers that never connect or fall silent, and lost records."""
        while True:
            await asyncio.sleep(_REPORT_S)
            for source in sources:
                source.check()
            now_s = monotonic()
            if self._connected_s is None:
                if now_s - self._began_s > self._settings.connect_timeout_s:
                    self.end(f"no connection within {self._settings.connect_timeout_s:g} s")
                continue
            heard_s = max([self._connected_s, *(r.last_s for r in self._receivers if r.last_s is not None)])
            if now_s - heard_s > self._idle_timeout_s:
                self.end(f"nothing came for {self._idle_timeout_s:g} s")
            await self._report()

    async def _report(self) -> None:
        reports = [report for receiver in self._receivers if (report := receiver.report()) is not None]
        if reports:
            first = self._transceivers[0]
            packet = RtcpRrPacket(ssrc=first.sender._ssrc, reports=reports)
            with contextlib.suppress(ConnectionError):  # it is closing, and the receivers hear of that
                await first.receiver.transport._send_rtp(bytes(packet))

    def _on_state(self) -> None:
        match self._connection.connectionState:
            case "connected" if self._connected_s is None:
                self._connected_s = monotonic()
                telemetry.webrtc_connected(self.name, self._connected_s - self._began_s)
            case "failed":
                self.end("no connection" if self._connected_s is None else "connection lost")
            case "closed":
                self.end("connection closed")

    def _count(self) -> None:
        for receiver in self._receivers:
            for fate, count in (
                ("taken", receiver.taken - receiver.core.late - receiver.core.malformed),
                ("late", receiver.core.late),
                ("malformed", receiver.core.malformed),
                ("stray", receiver.stray),
                ("shed", receiver.shed),
            ):
                telemetry.webrtc_packets(fate, count)
