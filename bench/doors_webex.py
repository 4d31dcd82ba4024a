"""The door of `bench.doors` that Webex Contact Center calls: both legs at 8 kHz, 20 ms a message."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc
import numpy as np

from bench.doors_grpc import CHUNK_S, settings, target
from callscope import clock
from callscope.simulate.webex import requests
from schemas.webex.conversationaudioforking_pb2_grpc import ConversationAudioStub

LEGS_A_CALL: Final = 2
__all__ = ["LEGS_A_CALL", "idle", "settings", "talk"]


async def talk(addresses: list[str], call: str, seconds: float) -> None:
    """A conversation in real time, to its one response."""
    pcm = np.zeros((round(8_000 * seconds), LEGS_A_CALL), np.int16)
    messages = requests(pcm, 8_000, call, "bench", clock.wall_ns(), CHUNK_S)
    async with grpc.aio.insecure_channel(target(addresses)) as channel:
        streaming = ConversationAudioStub(channel).StreamConversationAudio()
        began = clock.monotonic()
        for place, message in enumerate(messages):
            await asyncio.sleep(max(0.0, began + place // LEGS_A_CALL * CHUNK_S - clock.monotonic()))
            await streaming.write(message)
        await streaming.done_writing()
        await streaming.read()


async def idle(addresses: list[str], call: str, seconds: float) -> None:
    """A conversation of which only the first message came."""
    pcm = np.zeros((round(8_000 * CHUNK_S), LEGS_A_CALL), np.int16)
    async with grpc.aio.insecure_channel(target(addresses)) as channel:
        streaming = ConversationAudioStub(channel).StreamConversationAudio()
        for message in requests(pcm, 8_000, call, "bench", clock.wall_ns(), CHUNK_S):
            await streaming.write(message)
        await asyncio.sleep(seconds)
        await streaming.done_writing()
        await streaming.read()
