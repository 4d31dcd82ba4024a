"""New calls while the workers are behind."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from callscope.access import ANYONE
from callscope.config import Admission as AdmissionConfig
from callscope.errors import Overloaded
from callscope.streams import StreamId
from ingest.admission import Admission
from ingest.audio.framing import AudioFormat
from ingest.intake import Intake
from ingest.protocols.events import Opened
from tests.ingest.recording import RecordingPublisher
from tests.ingest.serving import serving

CONFIG = AdmissionConfig()


def opened(call_id: str, leg: str) -> Opened:
    return Opened((StreamId(call_id, leg),), AudioFormat("s16le", 16_000, 1), "test", {})


def told(admission: Admission, lag_ms: float, seconds: int, *, since: int = 0, worker: str = "w") -> int:
    for now in range(since, since + seconds):
        admission.heard(worker, lag_ms, now)
        admission.look(now)
    return since + seconds


def test_a_lag_that_lasts_closes_and_calm_that_lasts_opens() -> None:
    admission = Admission(CONFIG)
    admits = []
    now = 0
    for lag_ms, seconds in (
        (CONFIG.refuse_lag_ms + 1, 2),  # not long enough yet
        (CONFIG.refuse_lag_ms + 1, 2),
        (CONFIG.admit_lag_ms + 1, 20),  # neither calm nor late
        (CONFIG.admit_lag_ms, 5),
    ):
        now = told(admission, lag_ms, seconds, since=now)
        admits.append(admission.admits)
    assert admits == [True, False, False, True]


def test_the_worker_that_is_farthest_behind_decides() -> None:
    admission = Admission(CONFIG)
    for now in range(5):
        admission.heard("late", 5_000, now)
        admission.heard("early", 0, now)
        admission.look(now)
    before = admission.admits
    admission.left("late")
    told(admission, 0, 5, since=5, worker="early")
    assert (before, admission.admits) == (False, True)


def test_a_worker_that_stops_speaking_falls_behind_until_it_is_forgotten() -> None:
    admission = Admission(CONFIG)
    now = told(admission, 10, 3)
    changed = [later for later in range(now, now + 20) if admission.look(later)]
    assert len(changed) == 2, "refused, and taken again"
    assert admission.admits
    assert admission.lag_ms(now + 20) == 0


def test_while_kafka_is_away_the_silence_of_workers_says_nothing_and_afterwards_it_counts_from_then_on() -> None:
    admission = Admission(CONFIG)
    now = told(admission, 10, 3)
    admission.spool(True, None)
    assert not any(admission.look(later) for later in range(now, now + 60))
    admission.spool(False, None)
    assert not admission.look(now + 61)
    assert admission.lag_ms(now + 61) == 10
    changed = [later for later in range(now + 62, now + 82) if admission.look(later)]
    assert len(changed) == 2, "a worker that is gone is missed as ever"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 10_000)), max_size=50))
def test_turned_off_everything_is_taken(reports: list[tuple[str, float]]) -> None:
    admission = Admission(AdmissionConfig(enabled=False))
    for now, (worker, lag_ms) in enumerate(reports):
        admission.heard(worker, lag_ms, now)
        assert not admission.look(now)
        assert admission.admits


async def test_calls_that_run_go_on_and_get_their_other_leg() -> None:
    admission = Admission(CONFIG)
    intake = Intake(RecordingPublisher(), 10, 1.0, admission=admission)
    running = await intake.open(opened("running", "customer"), ANYONE)
    told(admission, 5_000, 5)
    with pytest.raises(Overloaded, match="Try again later"):
        await intake.open(opened("new", "customer"), ANYONE)
    other = await intake.open(opened("running", "agent"), ANYONE)
    await running.audio(bytes(640), 1)
    for source in (running, other):
        await source.end("end", 1, whole=True)
    told(admission, 0, 5, since=5)
    await (await intake.open(opened("new", "customer"), ANYONE)).end("end", 1, whole=True)
    assert intake.open_streams == 0


async def test_a_client_is_told_to_try_again_later() -> None:
    admission = Admission(CONFIG)
    told(admission, 5_000, 5)
    async with serving(admission=admission) as gateway, connect(gateway.url) as client:
        await client.send(
            json.dumps({"type": "hello", "call_id": "c", "legs": ["customer"], "encoding": "s16le", "rate_hz": 16_000})
        )
        refusal = json.loads(await client.recv())
        assert (refusal["code"], refusal["close_code"], refusal["retriable"]) == ("overloaded", 1013, True)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    assert "Try again later" in closed.value.rcvd.reason
