"""AudioSocket over TCP into a real Kafka, as Asterisk would send it."""

import asyncio
from uuid import uuid4

import numpy as np
import pytest
from click.testing import CliRunner

from callscope.cli import main
from callscope.client.pacing import at_rate
from callscope.client.recording import Recording
from callscope.client.sending import SendRefused
from callscope.config import Settings
from callscope.simulate.audiosocket import register, send_call
from ingest.audio.framing import AudioFormat
from ingest.protocols.audiosocket import RATES_HZ
from schemas.v1.events_pb2 import CallEvent
from tests.integration.open_ports import at_16_khz, canonical, happened, open_ports, published

pytestmark = pytest.mark.integration

TOKEN = "a token of some length"
PBX = {"name": "pbx", "token": TOKEN, "tenant": "acme", "scopes": ["publish"]}


async def test_a_stereo_call_is_published_bit_by_bit(kafka: Settings, demo_call: Recording, call_id: str) -> None:
    audio = at_16_khz(demo_call, 3)
    async with open_ports(kafka, tokens=(PBX,)) as ports:
        url = f"http://127.0.0.1:{ports.websocket_port}/asterisk/audiosocket"
        calls = [await asyncio.to_thread(register, url, call_id, leg, TOKEN) for leg in ("customer", "agent")]
        await send_call(audio, "127.0.0.1", ports.audiosocket_port, tuple(calls), speed=0, press=True)
    for channel, leg in enumerate(("customer", "agent")):
        data = audio.pcm[:, channel].astype("<i2").tobytes()
        pcm = published(kafka, f"acme~{call_id}", leg)
        assert np.array_equal(pcm, canonical(data, AudioFormat("s16le", 16_000, 1))[:, 0])
        assert np.array_equal(pcm[: len(audio.pcm)], audio.pcm[:, channel])
    events = happened(kafka, f"acme~{call_id}")
    kinds = sorted(CallEvent.Kind.Name(event.kind) for event in events)
    assert kinds == sorted(["CALL_STARTED", *["STREAM_STARTED", "DTMF", "STREAM_ENDED"] * 2, "CALL_ENDED"]), (
        "the legs are independent connections, and may overlap as they like"
    )
    assert {event.at for event in events if event.kind == CallEvent.DTMF} == {len(audio.pcm) // 320 * 320}
    assert {event.reason for event in events if event.kind == CallEvent.STREAM_ENDED} == {"end"}


@pytest.mark.parametrize("rate_hz", sorted({*RATES_HZ.values()} - {16_000}))
async def test_other_rates(kafka: Settings, demo_call: Recording, rate_hz: int) -> None:
    """The same as the reference decode; and that is within 40 dB of a conversion of all of it at once.

    Within 20 dB at 12 kHz, which soxr's variable-ratio engine places 10 microseconds early.
    """
    audio = at_rate(Recording("a", at_16_khz(demo_call, 3).pcm[:, 1:], 16_000), rate_hz)
    call = uuid4()
    async with open_ports(kafka) as ports:
        await send_call(audio, "127.0.0.1", ports.audiosocket_port, (call,), speed=0)
    pcm = published(kafka, str(call), "unknown")
    reference = canonical(audio.pcm.astype("<i2").tobytes(), AudioFormat("s16le", rate_hz, 1))[:, 0]
    assert np.array_equal(pcm, reference)
    whole = at_rate(audio, 16_000).pcm[:, 0].astype(float)
    noise = whole - pcm[: len(whole)]
    assert 10 * np.log10((whole**2).sum() / (noise**2).sum()) > (20 if rate_hz == 12_000 else 40)


async def test_a_connection_nobody_announced(kafka: Settings, demo_call: Recording) -> None:
    async with open_ports(kafka, tokens=(PBX,)) as ports:
        with pytest.raises(SendRefused, match=r"hung up|lost"):
            await send_call(at_16_khz(demo_call, 1), "127.0.0.1", ports.audiosocket_port, (uuid4(), uuid4()), speed=4)


def test_the_command_says_what_is_missing() -> None:
    result = CliRunner().invoke(main, ["simulate", "audiosocket", "--help"])
    assert result.exit_code == 0
    assert "--register" in result.output
