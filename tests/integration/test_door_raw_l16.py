"""jambonz, FreeSWITCH's modules and Vonage over the wire into a real Kafka."""

import numpy as np
import pytest

from callscope.client.pacing import at_rate
from callscope.client.recording import Recording
from callscope.config import Settings
from callscope.simulate.raw_l16 import send_call
from ingest.audio.framing import AudioFormat
from ingest.protocols.raw_l16 import DIALECTS
from schemas.v1.events_pb2 import CallEvent
from tests.integration.open_ports import at_16_khz, canonical, happened, open_ports, published

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
TOKEN = "a token of some length"
PBX = {"name": "pbx", "token": TOKEN, "tenant": "acme", "scopes": ["publish"]}


@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_call(kafka: Settings, demo_call: Recording, call_id: str, dialect: str, rate_hz: int) -> None:
    audio = at_rate(at_16_khz(demo_call, 3), rate_hz)
    async with open_ports(kafka, tokens=(PBX,)) as ports:
        gateway = f"ws://127.0.0.1:{ports.websocket_port}"
        await send_call(audio, gateway, dialect, call_id, LEGS, token=TOKEN, speed=0, press=True)
    legs = LEGS[:1] if dialect == "vonage" else LEGS
    for channel, leg in enumerate(legs):
        data = audio.pcm[:, channel].astype("<i2").tobytes()
        pcm = published(kafka, f"acme~{call_id}", leg)
        reference = canonical(data, AudioFormat("s16le", rate_hz, 1))[:, 0]
        assert np.array_equal(pcm, reference)
        if rate_hz == 16_000:
            assert np.array_equal(pcm[: len(audio.pcm)], audio.pcm[:, channel])
    events = happened(kafka, f"acme~{call_id}")
    assert [event.leg for event in events if event.kind == CallEvent.DTMF] == list(legs)
    assert {event.source for event in events} == {dialect}
    assert events[-1].kind == CallEvent.CALL_ENDED
    assert events[-1].reason == "end"
