"""WebRTC over real sockets, aiortc being the peer, into a publisher that keeps what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import aiohttp
import numpy as np
import pytest
import soxr
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.codecs.opus import OpusDecoder, OpusEncoder
from aiortc.jitterbuffer import JitterFrame
from av import AudioFrame
from numpy.typing import NDArray

from callscope.access import Access
from callscope.client.recording import Recording
from callscope.client.sending import SendRefused
from callscope.config import Settings, load
from callscope.simulate.webrtc import send
from ingest.gateways import webrtc
from ingest.gateways.gate import Gate
from ingest.gateways.whip import WhipListener
from ingest.intake import Intake
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.opus import snr_db, voice
from tests.ingest.recording import RecordingPublisher

OPUS_DELAY = 104
"""libopus hears 312 samples at 48 kHz ahead: 6.5 ms, which RTP says nothing of; its high-pass filter shifts phases."""
LOOPBACK = "127.0.0.1"


def call(seconds: float) -> Recording:
    return Recording("call", np.stack([voice(seconds, seed=1), voice(seconds, seed=2)[::-1]], axis=1), 48_000)


def canonical(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    """The same sound at 16 kHz, by the same resampler."""
    converted: NDArray[np.int16] = np.rint(soxr.resample(pcm.astype(np.float32), 48_000, 16_000)).astype(np.int16)
    return converted


def through_opus(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    """The reference decode: what aiortc's own decoder makes of what its encoder sends, at 16 kHz."""
    encoder, decoder = OpusEncoder(), OpusDecoder()
    heard = []
    for at in range(0, len(pcm), 960):
        chunk = np.ascontiguousarray(pcm[None, at : at + 960])
        frame = AudioFrame.from_ndarray(chunk, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
        for packet in encoder.encode(frame)[0]:
            heard += [one.to_ndarray().reshape(-1, 2) for one in decoder.decode(JitterFrame(packet, at))]
    return canonical(np.concatenate(heard).mean(axis=1).astype(np.int16))


def best_lag(reference: NDArray[np.int16], heard: NDArray[np.int16]) -> int:
    """By how many samples `heard` is late, within a period of the voice (114) around what is expected."""
    lags = range(60, 150)
    return max(lags, key=lambda lag: snr_db(reference[8_000:24_000], heard[8_000 + lag : 24_000 + lag]))


@asynccontextmanager
async def listening(**ingest: Any) -> AsyncIterator[tuple[WhipListener, RecordingPublisher]]:
    access = ingest.pop("access", {})
    options = {"port": 0, **ingest.pop("webrtc", {})}
    settings: Settings = load(ingest={"host": LOOPBACK, "webrtc": options, **ingest}, access=access)
    publisher = RecordingPublisher()
    intake = Intake(publisher, settings.ingest.max_streams, settings.ingest.publish_timeout_s)
    listener = await webrtc.listen(Gate(settings, intake, Access(settings.access)))
    assert isinstance(listener, WhipListener)
    try:
        yield listener, publisher
    finally:
        await listener.close()


async def offered() -> str:
    """An offer with one track, of a peer that is gone again."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("audio", direction="sendonly")
    await connection.setLocalDescription(await connection.createOffer())
    sdp = str(connection.localDescription.sdp)
    await connection.close()
    return sdp


async def post(url: str, sdp: str, **headers: str) -> tuple[int, dict[str, str], str]:
    async with aiohttp.ClientSession() as session:
        kind = {"Content-Type": "application/sdp", **headers}
        async with session.post(url, data=sdp, headers=kind) as response:
            return response.status, dict(response.headers), await response.text()


async def until_ended(publisher: RecordingPublisher) -> str:
    """The reason for which the call ended."""
    async with asyncio.timeout(10):
        while True:
            for happening in publisher.happenings():
                if happening.kind == CallEvent.CALL_ENDED:
                    return happening.reason
            await asyncio.sleep(0.02)


async def test_both_legs_of_a_call_arrive_at_their_media_times() -> None:
    sent = call(3.0)
    async with listening() as (listener, publisher):
        await send(sent, listener.address, "c-1", ("customer", "agent"))
        assert await until_ended(publisher) == "end"
    for channel, leg in enumerate(("customer", "agent")):
        reference = canonical(sent.pcm[:, channel])
        heard = publisher.pcm(f"c-1/{leg}")
        assert abs(len(heard) - len(reference)) <= 640
        lag = best_lag(reference, heard)
        assert abs(lag - OPUS_DELAY) <= 4
        decoded = through_opus(sent.pcm[:, channel])
        length = min(len(decoded), len(heard)) - 320
        snr = snr_db(decoded[:length], heard[:length])
        original = snr_db(reference[3_200:44_000], heard[lag:][3_200:44_000])
        print(f"{leg}: SNR {snr:.1f} dB to the reference decode, {original:.1f} dB to the original, {lag} samples late")
        assert snr > 60
        records = publisher.of(f"c-1/{leg}")
        assert [p.record.gap_before for p in records] == [0] * len(records) and records[-1].record.last
        assert all(p.source == "webrtc" for p in records)
    assert publisher.told()[-1] == ("CALL_ENDED", "")


async def test_what_the_network_loses_is_a_marked_hole_at_its_place() -> None:
    """Packets 40 to 44 of the customer and every 25th of the agent."""
    sent = call(2.0)

    def is_lost(leg: int, number: int) -> bool:
        return number in range(40, 45) if leg == 0 else number % 25 == 20

    async with listening() as (listener, publisher):
        await send(sent, listener.address, "c-1", ("customer", "agent"), is_lost=is_lost)
        await until_ended(publisher)
    holes = [(h.leg, h.at, h.duration, h.reason) for h in publisher.happenings() if h.kind == CallEvent.GAP]
    assert [hole for hole in holes if hole[0] == "customer"] == [("customer", 40 * 320, 5 * 320, "lost")]
    assert [hole[1:] for hole in holes if hole[0] == "agent"] == [(n * 320, 320, "lost") for n in (20, 45, 70, 95)]
    gaps = {leg: sum(p.record.gap_before for p in publisher.of(f"c-1/{leg}")) for leg in ("customer", "agent")}
    assert gaps["customer"] in (4 * 320, 5 * 320)  # what is left of a hole that is not on the grid of frames is silence
    for channel, leg in enumerate(("customer", "agent")):
        records = publisher.of(f"c-1/{leg}")
        assert records[-1].record.end == pytest.approx(2 * 16_000, abs=640)
        for before, after in pairwise(records):
            assert after.record.start == before.record.end + after.record.gap_before
        # The sound behind all holes is still where it belongs.
        timeline = np.zeros(records[-1].record.end, np.int16)
        for p in records:
            timeline[p.record.start : p.record.end] = np.frombuffer(p.record.pcm, "<i2")
        reference = canonical(sent.pcm[:, channel])
        assert abs(best_lag(reference, timeline) - OPUS_DELAY) <= 4


async def test_a_peer_that_just_goes_ends_the_call() -> None:
    async with listening() as (listener, publisher):
        await send(call(0.5), listener.address, "c-1", ("customer", "agent"), is_polite=False)
        assert await until_ended(publisher) in ("connection closed", "connection lost")


async def test_a_peer_that_never_connects_ends_the_call() -> None:
    async with listening(webrtc={"connect_timeout_s": 0.5}) as (listener, publisher):
        status, headers, answer = await post(f"{listener.address}?call_id=c-1&leg=agent", await offered())
        assert status == 201 and answer.startswith("v=0") and headers["Location"].startswith("/v1/webrtc/")
        assert "a=candidate:" in answer and " 127.0.0.1 " in answer and "a=recvonly" in answer
        assert await until_ended(publisher) == "no connection within 0.5 s"


async def test_a_peer_that_falls_silent_ends_the_call() -> None:
    async with listening(idle_timeout_s=1.0) as (listener, publisher):
        sending = asyncio.create_task(
            send(call(6.0), listener.address, "c-1", ("customer", "agent"), is_lost=lambda _, number: number > 20)
        )
        assert await until_ended(publisher) == "nothing came for 1 s"
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_gateway_that_stops_ends_its_peers() -> None:
    async with listening() as (listener, publisher):
        await post(f"{listener.address}?call_id=c-1&leg=agent", await offered())
        await listener.close()
        assert await until_ended(publisher) == "gateway shutting down"


async def test_requests_that_cannot_be_served_are_answered_with_their_reason() -> None:
    sdp = await offered()
    async with listening(webrtc={"max_peers": 2}) as (listener, publisher):
        url = listener.address
        for query, offer, status, code in (
            ("?call_id=c-1", sdp, 400, "bad_offer"),
            ("?call_id=c-1&leg=agent", "v=0\n", 400, "bad_offer"),
            ("?call_id=c-1&leg=agent", sdp.replace("a=setup:actpass", "a=setup:nonsense"), 400, "bad_offer"),
            ("?call_id=c-1&leg=agent", sdp + "a=x\r\n" * 20_000, 413, "bad_offer"),
            ("?call_id=c-1&leg=agent", sdp, 201, ""),
            ("?call_id=c-1&leg=agent", sdp, 409, "stream_exists"),
            ("?call_id=c-1&leg=customer", sdp, 201, ""),
            ("?call_id=c-2&leg=customer", sdp, 503, "too_many_streams"),
        ):
            got, _, text = await post(url + query, offer)
            assert got == status and code in text, (query, text)
        got, _, _ = await post(url + "?call_id=c-1&leg=agent", sdp, **{"Content-Type": "text/plain"})
        assert got == 400
        async with aiohttp.ClientSession() as session, session.delete(url + "/nothing") as response:
            assert response.status == 404
        assert {stream for stream in (h.call_id for h in publisher.happenings())} == {"c-1"}


async def test_candidates_may_trickle_in() -> None:
    sdp = await offered()
    username = next(line[12:] for line in sdp.splitlines() if line.startswith("a=ice-ufrag:"))
    candidate = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
    kind = {"Content-Type": "application/trickle-ice-sdpfrag"}
    async with listening() as (listener, _), aiohttp.ClientSession() as session:
        _, headers, _ = await post(f"{listener.address}?call_id=c-1&leg=agent", sdp)
        place = listener.address.removesuffix("/v1/webrtc") + headers["Location"]
        for text, status in (
            (f"a=ice-ufrag:{username}\r\na=mid:0\r\n{candidate}", 204),
            (f"a=mid:0\r\n{candidate}a=end-of-candidates\r\n", 204),
            (f"a=ice-ufrag:other\r\na=mid:0\r\n{candidate}", 400),
            (f"a=mid:7\r\n{candidate}", 400),
            ("a=candidate:nonsense", 400),
        ):
            async with session.patch(place, data=text, headers=kind) as response:
                assert response.status == status, text
        async with session.delete(place) as response:
            assert response.status == 200
        async with session.delete(place) as response:
            assert response.status == 404


async def test_a_token_is_needed_where_there_are_tokens_and_sessions_are_their_tenants() -> None:
    tokens = [
        {"name": "a", "token": "token of tenant a", "tenant": "a"},
        {"name": "b", "token": "token of tenant b", "tenant": "b"},
        {"name": "c", "token": "token of a viewer", "scopes": ["subscribe"]},
    ]
    sdp = await offered()
    async with listening(access={"tokens": tokens}) as (listener, publisher), aiohttp.ClientSession() as session:
        url = f"{listener.address}?call_id=c-1&leg=agent"
        status, headers, text = await post(url, sdp)
        assert status == 401 and headers["WWW-Authenticate"] == "Bearer" and "token" in text
        assert (await post(url, sdp, Authorization="Bearer token of a viewer"))[0] == 403
        status, headers, _ = await post(url, sdp, Authorization="Bearer token of tenant a")
        assert status == 201 and {h.call_id for h in publisher.happenings()} == {"a~c-1"}
        place = listener.address.removesuffix("/v1/webrtc") + headers["Location"]
        for token, expected in (("b", 404), ("a", 200)):
            bearer = {"Authorization": f"Bearer token of tenant {token}"}
            async with session.delete(place, headers=bearer) as response:
                assert response.status == expected
    with pytest.raises(SendRefused):
        await send(call(0.1), listener.address, "c-2", ("a", "b"))


async def test_pages_of_this_machine_may_send_and_strangers_may_not() -> None:
    servers = ["stun:stun.example.com:3478", "turn:turn.example.com"]
    turn = {"ice_servers": servers, "turn_username": "u", "turn_credential": "secret"}
    async with listening(webrtc=turn) as (listener, _), aiohttp.ClientSession() as session:
        url = listener.address
        asked = {"Origin": "http://localhost:7071", "Access-Control-Request-Method": "POST"}
        async with session.options(url, headers=asked) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:7071"
            assert "Link" not in response.headers
        async with session.options(url) as response:
            links = response.headers.getall("Link")
            assert links[0] == '<stun:stun.example.com:3478>; rel="ice-server"'
            assert 'username="u"; credential="secret"' in links[1]
        assert (await post(url, "v=0", Origin="https://evil.example"))[0] == 403
