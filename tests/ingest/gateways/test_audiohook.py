import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from callscope import clock
from callscope.client.audiohook_messages import Session, handshake
from callscope.config import Access as AccessSettings
from callscope.config import AccessToken, AudioHookKey
from ingest.audio.canonical import CanonicalAudio
from ingest.audio.framing import AudioFormat
from ingest.gateways.closing import SHUTTING_DOWN
from tests.ingest.gateways.audiohook_serving import Gateway, Peer, count_of, counted, gate, nonce, peer, until
from tests.ingest.protocols.audiohook_client import NULL, media, open_parameters
from tests.ingest.recording import RecordingPublisher

SECRET = base64.b64encode(bytes(range(32))).decode()
RNG = np.random.default_rng(7)


async def refused(gateway: Gateway, session: Session, **headers: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        async with peer(gateway, session, **headers):
            pass
    return caught.value.response.status_code, (caught.value.response.body or b"").decode()


def streams(of: Peer) -> tuple[str, str]:
    return f"{of.session.conversation}/customer", f"{of.session.conversation}/agent"


def mu_law(seconds: float) -> bytes:
    return RNG.integers(0, 256, round(seconds * 8_000) * 2, np.uint8).tobytes()


async def test_a_session_gives_both_legs_as_they_decode() -> None:
    data = mu_law(1.0)
    async with gate() as gateway:
        async with peer(gateway) as one:
            opened = await one.opens()
            assert opened["parameters"]["media"] == [media("external", "internal")]
            for at in range(0, len(data), 3_200):
                await one.sends(data[at : at + 3_200])
            await one.closes()
            customer, agent = streams(one)
            # "closed" comes when everything is published
            decoder = CanonicalAudio(AudioFormat("mulaw", 8_000, 2))
            expected = np.concatenate((decoder.push(data), decoder.flush()[0]))
            np.testing.assert_array_equal(gateway.publisher.pcm(customer), expected[:, 0])
            np.testing.assert_array_equal(gateway.publisher.pcm(agent), expected[:, 1])
        await gateway.idle()
        assert gateway.publisher.told() == [
            ("CALL_STARTED", ""),
            ("STREAM_STARTED", "customer"),
            ("STREAM_STARTED", "agent"),
            ("STREAM_ENDED", "customer"),
            ("STREAM_ENDED", "agent"),
            ("CALL_ENDED", ""),
        ]
        assert {h.reason for h in gateway.publisher.happenings()[3:]} == {"end"}
        first = gateway.publisher.happenings()[0]
        assert (first.source, first.encoding, first.rate_hz) == ("audiohook", "mulaw", 8_000)
        assert first.metadata["organization_id"] == one.session.organization
        assert "J. Doe" not in str(first) and "+1555" not in str(first)


async def test_inverted_channels_are_not_confused() -> None:
    async with gate() as gateway, peer(gateway) as one:
        await one.opens(media=[media("internal", "external")])
        await one.sends(bytes([0x80, 0xFF] * 1_600))  # loud inside, silent outside
        await one.closes()
        customer, agent = streams(one)
        assert np.abs(gateway.publisher.pcm(customer)).max() == 0
        assert np.abs(gateway.publisher.pcm(agent)).max() > 30_000


async def test_a_channel_can_be_left_out_by_configuration() -> None:
    async with gate(audiohook={"external_leg": "caller", "internal_leg": ""}) as gateway, peer(gateway) as one:
        opened = await one.opens()
        assert opened["parameters"]["media"] == [media("external")]
        await one.sends(bytes(1_600), channels=1)
        await one.closes()
        assert {leg for _, leg in gateway.publisher.told()} == {"", "caller"}


async def test_opened_and_pong_do_not_wait_for_kafka() -> None:
    class Stuck(RecordingPublisher):
        async def event(self, happening: Any) -> None:
            await self.open.wait()
            await super().event(happening)

    publisher = Stuck()
    publisher.open.clear()
    async with gate(publisher) as gateway, peer(gateway) as one:
        await one.opens()
        await one.sends(mu_law(0.2))
        await one.says("ping")
        await one.hears("pong")
        assert publisher.log == []
        publisher.open.set()
        await one.closes()
        assert len(publisher.pcm(streams(one)[0])) == 3_200


async def test_a_full_queue_stops_the_reading_and_loses_nothing() -> None:
    publisher = RecordingPublisher()
    publisher.open.clear()
    async with gate(publisher) as gateway, peer(gateway) as one:
        await one.opens()
        sent = asyncio.create_task(_send_much(one))
        await asyncio.sleep(0.3)
        publisher.open.set()
        await sent
        await one.closes()
        assert len(publisher.pcm(streams(one)[0])) == 30 * 16_000


async def _send_much(one: Peer) -> None:
    for _ in range(30):
        await one.sends(mu_law(1.0))


async def test_pauses_and_discarded_audio_are_holes_in_the_media_time() -> None:
    async with gate() as gateway, peer(gateway) as one:
        await one.opens()
        await one.sends(mu_law(0.2))
        await one.says("paused")
        one.client.position += 80_000
        await one.says("resumed", {"start": "PT0.2S", "discarded": "PT10S"})
        await one.sends(mu_law(0.2))
        one.client.position += 8_000
        await one.says("discarded", {"start": "PT10.4S", "discarded": "PT1S"})
        await one.sends(mu_law(0.2))
        await one.closes()
        for stream in streams(one):
            records = [p.record for p in gateway.publisher.of(stream)]
            gaps = [(r.start, r.gap_before) for r in records if r.gap_before]
            assert gaps == [(163_200, 160_000), (182_400, 16_000)]
            assert records[-1].end == 185_600
        told = [h for h in gateway.publisher.happenings() if h.reason in ("paused", "discarded")]
        assert [(h.leg, h.at, h.duration, h.reason) for h in told] == [
            ("customer", 3_200, 160_000, "paused"),
            ("agent", 3_200, 160_000, "paused"),
            ("customer", 166_400, 16_000, "discarded"),
            ("agent", 166_400, 16_000, "discarded"),
        ]


async def test_a_probe_creates_nothing_and_is_counted() -> None:
    before = count_of("callscope_ingest_probes_total", source="audiohook")
    async with gate() as gateway:
        async with peer(gateway, Session.probe("any", None)) as one:
            await one.opens()
            await one.sends(mu_law(0.2))
            await one.closes()
        assert gateway.publisher.log == []
    assert count_of("callscope_ingest_probes_total", source="audiohook") == before + 1


async def test_a_clients_error_and_its_update_do_not_end_the_session() -> None:
    before = count_of("callscope_ingest_client_errors_total", source="audiohook", code="429")
    async with gate() as gateway, peer(gateway) as one:
        await one.opens()
        await one.says("error", {"code": 429, "message": "slow down"})
        await one.says("update", {"language": "en-US"})
        await one.hears("updated")
        await one.sends(mu_law(0.2))
        await one.closes()
        assert len(gateway.publisher.pcm(streams(one)[1])) == 3_200
    assert count_of("callscope_ingest_client_errors_total", source="audiohook", code="429") == before + 1


async def test_a_pressed_key_is_an_event_without_the_digit() -> None:
    async with gate() as gateway, peer(gateway) as one:
        await one.opens()
        await one.says("dtmf", {"digit": "7"})
        await one.closes()
        assert ("DTMF", "customer") in gateway.publisher.told()
        assert "'7'" not in str(gateway.publisher.happenings())


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        ("{", 1003, "not one of AudioHook"),
        (json.dumps({"version": "2"}), 1003, "not one of AudioHook"),
        (bytes(3), 4415, "whole samples"),
        (bytes(70_000), 4415, "65536 bytes"),
        ("x" * 65_536, 1003, "65535"),
    ],
)
async def test_garbage_is_told_of_counted_and_closed_with_its_code(message: str | bytes, code: int, says: str) -> None:
    async with gate() as gateway, peer(gateway) as good, peer(gateway) as bad, counted(code):
        await good.opens()
        await bad.opens()
        await bad.sends(mu_law(0.2))
        await bad.socket.send(message)
        told = await bad.hears("disconnect")
        assert told["parameters"]["reason"] == "error" and says in told["parameters"]["info"]
        assert (await bad.ended())[0] == code
        await good.sends(mu_law(0.2))
        await good.closes()
        for one in (good, bad):  # what had come before is published
            assert len(gateway.publisher.pcm(streams(one)[0])) == 3_200


async def test_a_client_that_closes_the_session_it_was_asked_to_hears_closed() -> None:
    async with gate(audiohook={"close_timeout_s": 5.0}) as gateway, peer(gateway) as one:
        await one.opens()
        await one.says("hello")
        await one.hears("disconnect")
        await one.closes("disconnect")
        await one.socket.close()


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"hello_timeout_s": 0.3}, False), ({"idle_timeout_s": 0.3}, True)],
)
async def test_silent_clients_are_asked_to_leave(limits: dict[str, Any], message: bool) -> None:
    async with gate(**limits) as gateway, peer(gateway) as one, counted(4408):
        if message:
            await one.opens()
        assert "Nothing came" in (await one.hears("disconnect"))["parameters"]["info"]
        assert (await one.ended())[0] == 4408


async def test_lost_records_end_the_session_with_1013() -> None:
    publisher = RecordingPublisher(acknowledges=False)
    async with gate(publisher) as gateway, peer(gateway) as one, counted(1013):
        await one.opens()
        await one.sends(mu_law(0.2))
        customer, _ = streams(one)
        await until(lambda: publisher.of(customer))
        publisher.of(customer)[0].delivery.lost("queue full")
        assert "queue full" in (await one.hears("disconnect"))["parameters"]["info"]
        assert (await one.ended())[0] == 1013


async def test_closed_waits_for_kafka() -> None:
    publisher = RecordingPublisher(acknowledges=False)
    async with gate(publisher) as gateway, peer(gateway) as one:
        await one.opens()
        await one.sends(mu_law(0.2))
        await one.says("close", {"reason": "end"})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await one.socket.recv()
        publisher.acknowledge_all()
        await one.hears("closed")


async def test_a_conversation_goes_on_in_another_session_after_the_first_was_lost() -> None:
    async with gate(resume_s=5.0) as gateway:
        async with peer(gateway) as one:
            await one.opens()
            await one.sends(mu_law(0.2))
            await one.says("ping")
            await one.hears("pong")
            one.socket.transport.abort()
        await asyncio.sleep(0.1)
        again = Session("any", None, one.session.conversation, one.session.participant, one.session.organization)
        async with peer(gateway, again) as two:
            await two.opens()
            await two.sends(mu_law(0.2))
            await two.closes()
            records = [p.record for p in gateway.publisher.of(streams(one)[0])]
            gap = sum(record.gap_before for record in records)
            assert 0.1 * 16_000 <= gap < 3 * 16_000
            assert [record.seq for record in records] == list(range(len(records)))
            # Where a hole does not fill whole frames, silence does.
            assert 0 <= records[-1].end - gap - 2 * 3_200 < 640
        told = [kind for kind, leg in gateway.publisher.told() if leg in ("", "customer")]
        assert told == ["CALL_STARTED", "STREAM_STARTED", "RECONNECTED", "GAP", "STREAM_ENDED", "CALL_ENDED"]


async def test_a_session_that_continues_another_says_itself_what_is_missing() -> None:
    async with gate(resume_s=5.0) as gateway:
        async with peer(gateway) as one:
            await one.opens()
            await one.sends(mu_law(1.0))
            await one.closes("reconnect")
        again = Session("any", None, one.session.conversation, one.session.participant, one.session.organization)
        before = [{"id": one.session.id, "serverseq": 2, "clientseq": 2}]
        async with peer(gateway, again) as two:
            two.client.position = 4_000
            opened = await two.opens(continuedSessions=before)
            assert opened["parameters"]["discardTo"] == "PT1S"
            two.client.position = 8_000
            await two.says("discarded", {"start": "PT0.5S", "discarded": "PT0.5S"})
            await two.sends(mu_law(0.2))
            await two.closes()
        records = [p.record for p in gateway.publisher.of(streams(one)[1])]
        assert sum(record.gap_before for record in records) == 0
        assert records[-1].end == 1.2 * 16_000


async def test_a_second_session_takes_a_running_conversation_over() -> None:
    async with gate(audiohook={"close_timeout_s": 5.0}) as gateway, peer(gateway) as one:
        await one.opens()
        await one.sends(mu_law(0.2))
        again = Session("any", None, one.session.conversation, one.session.participant, one.session.organization)
        async with peer(gateway, again) as two:
            await two.opens()
            assert (await one.hears("disconnect"))["parameters"]["reason"] == "completed"
            await one.closes("disconnect")
            await two.sends(mu_law(0.2))
            await two.closes()
        assert [leg for kind, leg in gateway.publisher.told() if kind == "STREAM_STARTED"] == ["customer", "agent"]
        assert 0 <= len(gateway.publisher.pcm(streams(one)[0])) - 2 * 3_200 < 640


async def test_a_conversation_with_other_channels_is_refused() -> None:
    async with gate() as gateway, peer(gateway) as one:
        await one.opens()
        again = Session("any", None, one.session.conversation, one.session.participant, one.session.organization)
        async with peer(gateway, again) as two, counted(4409):
            await two.opens(media=[media("external")])
            assert "other channels" in (await two.hears("disconnect"))["parameters"]["info"]
            assert (await two.ended())[0] == 4409
        await one.sends(mu_law(0.2))
        await one.closes()


async def test_a_conversation_that_nobody_takes_up_ends() -> None:
    async with gate(resume_s=0.3) as gateway:
        async with peer(gateway) as one:
            await one.opens()
            one.socket.transport.abort()
        await gateway.idle()
        assert gateway.publisher.happenings()[-1].reason == "connection lost"


async def test_shutting_down_ends_running_and_waiting_sessions() -> None:
    async with gate(resume_s=60.0) as gateway, peer(gateway) as running_one:
        await running_one.opens()
        async with peer(gateway) as lost:
            await lost.opens()
            lost.socket.transport.abort()
        async with asyncio.timeout(5):
            await gateway.stop()
        reasons = {h.call_id: h.reason for h in gateway.publisher.happenings()}
        assert reasons == {
            running_one.session.conversation: SHUTTING_DOWN,
            lost.session.conversation: "connection lost",
        }


KEYS = (
    AudioHookKey(api_key="signed-key", client_secret=SECRET, tenant="acme"),
    AudioHookKey(api_key="bare-key"),
)
GOOD = base64.b64decode(SECRET)


async def test_a_signed_handshake_comes_in_as_its_keys_tenant() -> None:
    async with gate(audiohook={"keys": KEYS}) as gateway, peer(gateway, Session("signed-key", GOOD)) as one:
        await one.opens()
        await one.sends(mu_law(0.2))
        await one.closes()
        assert len(gateway.publisher.pcm(f"acme~{streams(one)[0]}")) == 3_200


async def test_a_key_without_secret_needs_no_signature() -> None:
    async with gate(audiohook={"keys": KEYS}) as gateway, peer(gateway, Session("bare-key")) as one:
        await one.opens()
        await one.closes()


@pytest.mark.parametrize(
    ("session", "headers"),
    [
        (Session("signed-key"), {}),
        (Session("signed-key", b"another secret than ours"), {}),
        (Session("bare-key", b"a secret where there is none"), {}),
        (Session("unknown"), {}),
        (Session("unknown", GOOD), {}),
        (Session("signed-key", GOOD), {"audiohook-correlation-id": NULL}),
        (Session("signed-key", GOOD), {"host": "elsewhere.example.com"}),
        (Session("bare-key", id="no-uuid"), {}),
    ],
)
async def test_whoever_has_no_good_signature_is_answered_with_401(session: Session, headers: dict[str, str]) -> None:
    async with gate(audiohook={"keys": KEYS}) as gateway, counted(401):
        status, _ = await refused(gateway, session, **headers)
        assert status == 401
        assert gateway.publisher.log == []


async def test_a_refusal_does_not_tell_an_unknown_key_from_a_wrong_signature() -> None:
    async with gate(audiohook={"keys": KEYS}) as gateway:
        wrong = b"another secret than ours"
        assert await refused(gateway, Session("signed-key", wrong)) == await refused(gateway, Session("other", wrong))
        assert await refused(gateway, Session("signed-key")) == await refused(gateway, Session("other"))


async def test_a_handshake_is_good_once() -> None:
    async with gate(audiohook={"keys": KEYS}) as gateway:
        headers = handshake(Session("signed-key", GOOD), gateway.url, nonce(), clock.wall_ns() / 1e9)
        async with connect(gateway.url, additional_headers=headers):
            pass
        with pytest.raises(InvalidStatus):
            async with connect(gateway.url, additional_headers=headers):
                pass


async def test_behind_a_proxy_the_configured_authority_is_what_is_signed() -> None:
    hook = {"keys": KEYS, "authority": "callscope.example.com"}
    async with gate(audiohook=hook) as gateway:
        session = Session("signed-key", GOOD)
        outside = handshake(session, "wss://callscope.example.com/audiohook", nonce(), clock.wall_ns() / 1e9)
        async with connect(gateway.url, additional_headers=outside):
            pass
        assert (await refused(gateway, session))[0] == 401


async def test_without_keys_of_its_own_the_api_key_is_a_bearer_token() -> None:
    token = AccessToken.model_validate({"name": "genesys", "token": "0123456789abcdef", "tenant": "acme"})
    async with gate(access=AccessSettings(tokens=(token,))) as gateway:
        async with peer(gateway, Session("0123456789abcdef")) as one:
            await one.opens()
            await one.closes()
        assert gateway.publisher.happenings()[0].call_id == f"acme~{one.session.conversation}"
        assert (await refused(gateway, Session("fedcba9876543210")))[0] == 401


async def test_what_open_says_must_be_what_was_signed() -> None:
    async with gate() as gateway, peer(gateway) as one, counted(4400):
        await one.says("open", open_parameters())
        assert "organizationId" in (await one.hears("disconnect"))["parameters"]["info"]
        assert (await one.ended())[0] == 4400
        assert gateway.publisher.log == []
