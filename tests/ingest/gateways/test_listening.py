"""The WebSocket channel and the dialects of hello and raw L16, over the wire."""

import asyncio
import base64
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from ingest.audio.g711 import MU_LAW
from tests.ingest.gateways.ports import TOKEN, Ports, counted, ports, until

SAMPLES = np.arange(-8_000, 8_000, dtype="<i2")
STEREO = np.stack((SAMPLES, SAMPLES[::-1]), axis=1)
PBX = {"name": "pbx", "token": TOKEN, "tenant": "acme", "scopes": ["publish"]}
START = (
    "MEDIA_START connection_id:callscope channel:WebSocket/callscope/0x1 channel_id:1767225600.42 format:slin16 "
    "optimal_frame_size:640 ptime:20"
)
JAMBONZ = json.dumps({"sampleRate": 16_000, "mixType": "stereo", "callSid": "call-1", "legs": "customer,agent"})


async def sent(gateway: Ports, path: str, messages: list[str | bytes], **options: Any) -> tuple[int, str]:
    """Send all and close; the code and reason of the gateway's close frame."""
    async with connect(gateway.url(path), compression=None, **options) as client:
        try:
            for message in messages:
                await client.send(message)
            await client.close()
        except ConnectionClosed:
            pass
        return client.close_code or 0, client.close_reason or ""


async def refused(gateway: Ports, path: str, messages: list[str | bytes]) -> tuple[int, str]:
    """Send all and wait until the gateway closes."""
    async with connect(gateway.url(path), compression=None) as client:
        with suppress(ConnectionClosed):
            for message in messages:
                await client.send(message)
        async with asyncio.timeout(5):
            await client.wait_closed()
        return client.close_code or 0, client.close_reason or ""


def pieces(samples: np.ndarray[Any, Any]) -> list[str | bytes]:
    data = samples.tobytes()
    return [data[at : at + 640] for at in range(0, len(data), 640)]


async def test_a_channel_of_asterisk() -> None:
    async with ports(tokens=(PBX,)) as gateway:
        basic = base64.b64encode(f"callscope:{TOKEN}".encode()).decode()
        async with connect(
            gateway.url("/asterisk?call_id=call-1&leg=customer"),
            subprotocols=[Subprotocol("media")],
            additional_headers={"Authorization": f"Basic {basic}"},
            compression=None,
        ) as client:
            assert client.subprotocol == "media"
            await client.send(START)
            for piece in pieces(SAMPLES):
                await client.send(piece)
            await client.send("DTMF_END digit:5 channel_id:1767225600.42")
        await gateway.idle()
        assert np.array_equal(gateway.publisher.pcm("acme~call-1/customer"), SAMPLES)
        assert [kind for kind, _ in gateway.publisher.told()] == [
            "CALL_STARTED",
            "STREAM_STARTED",
            "DTMF",
            "STREAM_ENDED",
            "CALL_ENDED",
        ]
        assert gateway.publisher.happenings()[-1].reason == "end"


async def test_mu_law_of_asterisk() -> None:
    codes = np.arange(256, dtype=np.uint8).repeat(10)
    async with ports() as gateway:
        start = json.dumps({"event": "MEDIA_START", "channel_id": "17.4", "format": "ulaw", "channel_variables": {}})
        await sent(gateway, "/asterisk", [start, codes[:7].tobytes(), codes[7:].tobytes()])
        await until(lambda: gateway.publisher.told()[-1:] == [("CALL_ENDED", "")])
        pcm = gateway.publisher.pcm("17.4/unknown")
        assert len(pcm) == 2 * len(codes)
        assert np.abs(pcm[1_000:1_010].astype(int) - MU_LAW[codes[500:505]].astype(int).repeat(2)).max() < 3_000


@pytest.mark.parametrize(
    ("path", "hello"),
    [
        ("/l16/jambonz", [JAMBONZ]),
        ("/l16/mod_audio_fork?rate=16000&mix=stereo&call_id=call-1&legs=customer,agent", ['{"to":"1"}']),
        ("/l16/mod_audio_stream?rate=16k&mix=stereo&call_id=call-1&legs=customer,agent", []),
        ("/l16/mod_audio_stream?rate=16k&mix=stereo&call_id=call-1&legs=customer,agent", ["any text"]),
    ],
)
async def test_a_stereo_call(path: str, hello: list[str | bytes]) -> None:
    async with ports() as gateway:
        dtmf = '{"event":"dtmf","dtmf":"5","duration":1600}'
        await sent(gateway, path, [*hello, *pieces(STEREO), dtmf])
        await until(lambda: gateway.publisher.told()[-1:] == [("CALL_ENDED", "")])
        assert np.array_equal(gateway.publisher.pcm("call-1/customer"), STEREO[:, 0])
        assert np.array_equal(gateway.publisher.pcm("call-1/agent"), STEREO[:, 1])
        assert [leg for kind, leg in gateway.publisher.told() if kind == "DTMF"] == ["customer", "agent"]
        assert gateway.publisher.happenings()[-1].reason == "end"


async def test_vonage() -> None:
    hello = json.dumps({"event": "websocket:connected", "content-type": "audio/l16;rate=16000", "queue": "billing"})
    async with ports() as gateway:
        await sent(gateway, "/l16/vonage?leg=customer", [hello, *pieces(SAMPLES)])
        await until(lambda: gateway.publisher.told()[-1:] == [("CALL_ENDED", "")])
        call_id = gateway.publisher.happenings()[0].call_id
        assert call_id.startswith("vonage-")
        assert np.array_equal(gateway.publisher.pcm(f"{call_id}/customer"), SAMPLES)


@pytest.mark.parametrize(
    ("path", "subprotocol"),
    [("/l16/jambonz", "audio.jambonz.org"), ("/l16/mod_audio_fork", "audio.drachtio.org"), ("/asterisk", "media")],
)
async def test_subprotocols(path: str, subprotocol: str) -> None:
    offered = [Subprotocol("other"), Subprotocol(subprotocol)]
    async with ports() as gateway, connect(gateway.url(path), subprotocols=offered) as client:
        assert client.subprotocol == subprotocol


@pytest.mark.parametrize("path", ["/l16", "/l16/", "/l16/twilio", "/asterisk/x"])
async def test_no_such_dialect(path: str) -> None:
    async with ports() as gateway:
        with pytest.raises(InvalidStatus) as caught:
            await connect(gateway.url(path))
        assert caught.value.response.status_code == 404


@pytest.mark.parametrize("path", ["/asterisk", "/l16/jambonz", "/l16/vonage?token=wrong"])
async def test_without_a_token(path: str) -> None:
    async with ports(tokens=(PBX,)) as gateway, counted(401):
        with pytest.raises(InvalidStatus) as caught:
            await connect(gateway.url(path))
        assert caught.value.response.status_code == 401


async def test_registering_is_no_websocket() -> None:
    async with ports() as gateway:
        with pytest.raises(InvalidStatus):
            await connect(gateway.url("/asterisk/audiosocket?call_id=call-1&leg=customer"))


@pytest.mark.parametrize(
    ("path", "messages", "code"),
    [
        ("/asterisk", ["hello"], 4400),
        ("/asterisk", [b"\0\0"], 1003),
        ("/asterisk", [START, START], 1003),
        ("/asterisk", [START.replace("slin16", "opus")], 4400),
        ("/asterisk?" + "&".join(f"p{n}=1" for n in range(40)), [START], 4400),
        ("/l16/jambonz", ["hello"], 4400),
        ("/l16/jambonz", [b"\0\0"], 1003),
        ("/l16/jambonz", [JAMBONZ, "hello"], 1003),
        ("/l16/mod_audio_fork", [b"\0\0"], 4400),
        ("/l16/mod_audio_fork?rate=8k&mix=quad", [b"\0\0"], 4400),
        ("/l16/vonage", ['{"event":"websocket:connected","content-type":"audio/opus"}'], 4400),
    ],
)
async def test_garbage_is_told_why_and_touches_no_other_stream(
    path: str, messages: list[str | bytes], code: int
) -> None:
    async with ports() as gateway:
        async with connect(gateway.url("/l16/jambonz")) as good:
            await good.send(JAMBONZ.replace("call-1", "good"))
            await good.send(STEREO[:8_000].tobytes())
            async with counted(code):
                got, reason = await refused(gateway, path, messages)
                assert got == code
                assert reason
            await good.send(STEREO[8_000:].tobytes())
        await gateway.idle()
        assert np.array_equal(gateway.publisher.pcm("good/customer"), STEREO[:, 0])


async def test_audio_before_garbage_is_kept_and_the_reason_told() -> None:
    async with ports() as gateway:
        await refused(gateway, "/l16/jambonz", [JAMBONZ, *pieces(STEREO), "hello"])
        await gateway.idle()
        assert np.array_equal(gateway.publisher.pcm("call-1/agent"), STEREO[:, 1])
        assert "no JSON object" in gateway.publisher.happenings()[-1].reason


async def test_a_farewell_in_words() -> None:
    async with ports() as gateway:
        code, _ = await refused(gateway, "/l16/jambonz", [JAMBONZ, *pieces(STEREO), '{"type":"disconnect"}'])
        assert code == 1000
        await gateway.idle()
        assert gateway.publisher.happenings()[-1].reason == "end"
        assert np.array_equal(gateway.publisher.pcm("call-1/customer"), STEREO[:, 0])


async def test_half_a_sample_at_the_end() -> None:
    async with ports() as gateway, counted(4415):
        await sent(gateway, "/l16/jambonz", [JAMBONZ, b"\1\0\2"])
        await gateway.idle()


async def test_a_connection_that_breaks() -> None:
    async with ports() as gateway:
        async with connect(gateway.url("/l16/jambonz")) as client:
            await client.send(JAMBONZ)
            await client.send(STEREO.tobytes())
            await until(lambda: len(gateway.publisher.pcm("call-1/agent")) == len(STEREO))
            client.transport.abort()
        await until(lambda: gateway.publisher.told()[-1:] == [("CALL_ENDED", "")])
        assert gateway.publisher.happenings()[-1].reason == "connection lost"


async def test_a_source_that_fails_says_so_by_its_code() -> None:
    async with ports() as gateway:
        async with connect(gateway.url("/l16/jambonz")) as client:
            await client.send(JAMBONZ)
            await client.send(STEREO.tobytes())
            await client.close(1011, "media server restarts")
        await until(lambda: gateway.publisher.told()[-1:] == [("CALL_ENDED", "")])
        assert gateway.publisher.happenings()[-1].reason == "closed by the source: 1011 media server restarts"


async def test_nothing_comes() -> None:
    async with ports(hello_timeout_s=0.2) as gateway, counted(4408):
        assert (await refused(gateway, "/asterisk", []))[0] == 4408
    async with ports(idle_timeout_s=0.2) as gateway, counted(4408):
        assert (await refused(gateway, "/asterisk", [START]))[0] == 4408
        await gateway.idle()
        assert "Nothing came" in gateway.publisher.happenings()[-1].reason


async def test_kafka_that_takes_nothing() -> None:
    async with ports() as gateway, counted(1013):
        gateway.publisher.refuses = True
        assert (await refused(gateway, "/asterisk", [START, *pieces(SAMPLES)]))[0] == 1013


async def test_shutting_down() -> None:
    async with ports() as gateway, connect(gateway.url("/asterisk")) as client:
        await client.send(START)
        await client.send(SAMPLES.tobytes())
        await until(lambda: len(gateway.publisher.pcm("1767225600.42/unknown")) == len(SAMPLES))
        await gateway.close()
        await client.wait_closed()
        assert client.close_code == 1001
        assert gateway.publisher.happenings()[-1].reason == "gateway shutting down"
