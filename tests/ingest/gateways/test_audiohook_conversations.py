import asyncio

import pytest

from callscope.errors import StreamExists
from callscope.grants import ANYONE
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.gateways.audiohook_conversations import Conversations, Held, conversations_of
from ingest.intake import Intake
from ingest.protocols.events import Opened
from tests.ingest.recording import RecordingPublisher

KEY = ("", "call-1", "participant")
OPENED = Opened((StreamId("call-1", "customer"),), AudioFormat("mulaw", 8_000, 1), "audiohook", {})


async def holding() -> tuple[Conversations, Held, Intake]:
    intake = Intake(RecordingPublisher(), 10, 1.0)
    conversations = conversations_of(intake)
    return conversations, conversations.hold(KEY, Held(await intake.open(OPENED, ANYONE), OPENED, "session")), intake


async def test_a_source_is_taken_when_its_holder_gives_it_up() -> None:
    conversations, held, intake = await holding()
    assert conversations.find(KEY) is held
    assert conversations_of(intake) is conversations
    taking = asyncio.create_task(conversations.take_over(held, OPENED, 5.0))
    await held.wanted.wait()
    assert not taking.done()
    held.released.set()
    await taking
    await held.source.end("end", 0, whole=True)


async def test_two_cannot_take_the_same_one() -> None:
    conversations, held, _ = await holding()
    taking = asyncio.create_task(conversations.take_over(held, OPENED, 5.0))
    await held.wanted.wait()
    with pytest.raises(StreamExists, match="Another session"):
        await conversations.take_over(held, OPENED, 5.0)
    held.released.set()
    await taking


@pytest.mark.parametrize("how", ["time-out", "cancelled"])
async def test_whoever_gives_up_waiting_leaves_the_source_where_it_is(how: str) -> None:
    conversations, held, _ = await holding()
    taking = asyncio.create_task(conversations.take_over(held, OPENED, 0.05 if how == "time-out" else 5.0))
    await held.wanted.wait()
    if how == "cancelled":
        taking.cancel()
    with pytest.raises((StreamExists, asyncio.CancelledError)):
        await taking
    assert not held.wanted.is_set()
    assert conversations.find(KEY) is held


async def test_a_source_that_is_released_to_nobody_is_ended() -> None:
    conversations, held, intake = await holding()
    taking = asyncio.create_task(conversations.take_over(held, OPENED, 5.0))
    await held.wanted.wait()
    held.released.set()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert intake.open_streams == 0


async def test_letting_go_leaves_a_successor_alone() -> None:
    conversations, held, _ = await holding()
    successor = Held(held.source, OPENED, "another")
    conversations.hold(KEY, successor)
    for one, left in ((held, successor), (successor, None)):
        conversations.let_go(KEY, one)
        assert conversations.find(KEY) is left
