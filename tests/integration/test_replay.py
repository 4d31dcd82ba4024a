"""A run's digest is that of the live results: however fast, in whichever wiring, by however many, after whatever."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import soundfile
from click.testing import CliRunner
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
from websockets.asyncio.client import connect

from callscope import clock
from callscope.cli import main
from callscope.client.recording import Recording
from callscope.config import Settings
from callscope.errors import BadReplay
from callscope.exchange.exporting import Choice, export
from callscope.kafka import client_options, records_held
from callscope.replay import live
from callscope.replay.digest import RESULTS, combined
from callscope.replay.plan import Plan, RunFolder
from callscope.replay.run import Progress, carry_out, draw_up
from callscope.supervisor import System
from callscope.topics import TOPICS, VOICE_INSIGHTS
from tests.callscope.exchange.calls import publish
from tests.integration.records import read_when

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
LENGTHS_S = (3.0, 8.0, 4.0)
"""Of the calls: one ends while another is in the midst, so that an interrupted run has some behind it."""


async def send(call: Recording, gateway: str, call_id: str, seconds: float, refuse_s: float | None = None) -> None:
    """Send both legs as fast as it goes; the customer refuses to be analysed from `refuse_s` on."""
    pcm = call.pcm[: round(seconds * call.rate_hz)]
    hello = {"type": "hello", "call_id": call_id, "legs": LEGS, "encoding": "s16le", "channels": 2}
    async with connect(gateway, compression=None, ping_timeout=None) as connection:
        await connection.send(json.dumps({**hello, "rate_hz": call.rate_hz}))
        for at in range(0, len(pcm), 800):
            if at / call.rate_hz == refuse_s:
                await connection.send(json.dumps({"type": "consent", "leg": "customer", "analyse": False}))
            await connection.send(pcm[at : at + 800].tobytes())
        await connection.send(json.dumps({"type": "end"}))
        async for _ in connection:
            continue


async def analysed(system: System, settings: Settings, call: Recording, ids: Collection[str]) -> str:
    """Send the calls to a system; the digest of what it found when it has found everything."""
    for call_id, seconds in zip(ids, LENGTHS_S, strict=True):
        await send(call, system.addresses.gateway, call_id, seconds, refuse_s=7.0)
    for call_id in ids:
        await read_when(settings, VOICE_INSIGHTS, call_id, ended)
    return digest_of(settings, ids)


def ended(stored: list[Any]) -> bool:
    return [record.message.stream_ended for record in stored].count(True) == len(LEGS)


def digest_of(settings: Settings, calls: Collection[str], run: str | None = None) -> str:
    found = live.of_topics(settings, lambda call: call in calls, lambda done, of: None, run)
    assert len(found) == len(calls) * len(LEGS)
    return combined(found)


@pytest.fixture(scope="module")
def calls() -> list[str]:
    return [f"replayed-{uuid.uuid4().hex[:8]}-{number}" for number in range(len(LENGTHS_S))]


@pytest.fixture(scope="module")
def wanted(fused: System, kafka: Settings, demo_call: Recording, calls: list[str]) -> str:
    """The calls come in live; the digest of their results."""
    return asyncio.run(analysed(fused, kafka, demo_call, calls))


@pytest.fixture
def begin(kafka: Settings, calls: list[str], wanted: str, tmp_path: Path) -> Callable[..., RunFolder]:
    """Draws up a run of the calls."""

    def draw(**more: Any) -> RunFolder:
        folder = RunFolder(tmp_path, f"test-{uuid.uuid4().hex[:8]}")
        plan = Plan(run=folder.run, source="kafka", to="topics", calls=calls)
        draw_up(kafka, replace(plan, **more), folder)
        return folder

    return draw


def test_at_full_speed_with_more_workers(
    kafka: Settings, calls: list[str], wanted: str, begin: Callable[..., RunFolder]
) -> None:
    """With one: see the command, below."""
    folder = begin(calls=[*calls, "nobody"])
    outcome = carry_out(kafka, folder, 4)
    assert outcome.digest == digest_of(kafka, calls, folder.run) == wanted
    assert set(outcome.legs) == {f"{call}/{leg}" for call in calls for leg in LEGS}
    assert all(leg.ended and leg.whole for leg in outcome.legs.values())
    assert outcome.seconds == outcome.progress.seconds == pytest.approx(2 * sum(LENGTHS_S))
    assert outcome.missing == ["nobody"]


def test_as_it_was(kafka: Settings, calls: list[str], wanted: str, begin: Callable[..., RunFolder]) -> None:
    began = clock.monotonic()
    outcome = carry_out(kafka, begin(speed=1.0, to="none", calls=calls[2:]), 1)
    assert clock.monotonic() - began >= LENGTHS_S[2], "it takes as long as it took"
    assert outcome.digest == digest_of(kafka, calls[2:])


def test_interrupted_and_resumed(
    kafka: Settings, calls: list[str], wanted: str, begin: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """Into a folder; with one worker, then with two."""
    out = tmp_path / "out"
    folder = begin(speed=4.0, to="folder", folder=str(out))

    def interrupt(now: Progress) -> None:
        if now.seconds > 14.0:  # of 30: the shortest call is over, the longest is in the midst
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(kafka, folder, 1, interrupt)
    done = {name for part in folder.plan().parts for name in folder.state(part).legs}
    assert {f"{calls[0]}/{leg}" for leg in LEGS} <= done < {f"{call}/{leg}" for call in calls for leg in LEGS}
    outcome = carry_out(kafka, folder, 2)
    assert outcome.digest == wanted
    again_s = sum(leg.samples for name, leg in outcome.legs.items() if name not in done) / 16_000
    assert outcome.progress.seconds == again_s, "what was done is not done again"
    assert combined(live.of_folder(out, lambda call: True)) == wanted


def test_killed_and_resumed(kafka: Settings, calls: list[str], wanted: str, begin: Callable[..., RunFolder]) -> None:
    """Into topics, which then hold some results twice."""
    folder = begin(speed=4.0)

    def kill(now: Progress) -> None:
        if now.seconds > 8.0:
            for child in psutil.Process().children():
                if child.cmdline()[-1] == "callscope.replay.worker":
                    child.kill()

    with pytest.raises(BadReplay, match=rf"ended with -9\. .* --resume {folder.run} --state .* goes on"):
        carry_out(kafka, folder, 1, kill)
    assert carry_out(kafka, folder, 1).digest == digest_of(kafka, calls, folder.run) == wanted


def test_a_time_and_a_tenant(kafka: Settings, tmp_path: Path) -> None:
    """Calls are chosen before any is replayed; each of them whole."""
    ours, theirs = f"acme~{uuid.uuid4().hex[:8]}", f"other~{uuid.uuid4().hex[:8]}"
    moments = [clock.calendar_ns() // 1_000_000]
    for call_id in (ours, theirs):
        publish(kafka, call_id, seconds=1.0)
        time.sleep(0.05)
        moments.append(clock.calendar_ns() // 1_000_000)
        time.sleep(0.05)

    def chosen(since_ms: int, until_ms: int | None, **more: Any) -> list[str] | None:
        folder = RunFolder(tmp_path, uuid.uuid4().hex[:8])
        return draw_up(kafka, replace(Plan(folder.run, "kafka", "none"), **more), folder, since_ms, until_ms).calls

    assert chosen(moments[0], None) == [ours, theirs]
    assert chosen(moments[0], moments[1]) == [ours]
    assert chosen(moments[1], moments[2]) == [theirs]
    assert chosen(moments[0], None, tenant="acme") == chosen(moments[0], None, calls=[ours]) == [ours]
    with pytest.raises(BadReplay, match=r"There is no audio to replay of that time\."):
        chosen(moments[0], None, tenant="nobody")


def test_an_export_and_files(
    kafka: Settings, demo_call: Recording, calls: list[str], wanted: str, tmp_path: Path
) -> None:
    exported, results = tmp_path / "export", tmp_path / "results"
    export(kafka, Choice(tuple(calls), audio="none", results=("records",)), exported, lambda done, of: None)
    assert combined(live.of_folder(exported, lambda call: True)) == wanted
    chosen = [argument for call in (*calls, "nobody") for argument in ("--call", call)]
    told = run("replay", str(exported), *chosen, "--to", "none", "--state", str(tmp_path / "1"), "--workers", "1")
    assert told.exit_code == 1 and "there is no audio (any more) of nobody" in told.output
    assert f"digest {wanted}\n" in told.output, "those that are there are replayed all the same"

    audio = tmp_path / "audio"
    audio.mkdir()
    for call_id, seconds in zip(calls, LENGTHS_S, strict=True):
        soundfile.write(audio / f"{call_id}.wav", demo_call.pcm[: round(seconds * 16_000)], 16_000)
    folder = RunFolder(tmp_path / "2", "run")
    plan = Plan("run", "files", "folder", paths=[str(audio)], legs=list(LEGS), folder=str(results))
    draw_up(kafka, plan, folder)
    outcome = carry_out(kafka, folder, 1)
    short = [name for name in outcome.legs if name.startswith((calls[0], calls[2]))]  # where nothing was refused
    those = live.of_topics(kafka, lambda call: call in (calls[0], calls[2]), lambda done, of: None)
    assert {name: outcome.legs[name].digest for name in short} == those
    assert combined(live.of_folder(results, lambda call: True)) == outcome.digest != wanted


def state_of_the_cluster(settings: Settings, groups: list[str]) -> Any:
    """What the live side has: the ends of its topics, the offsets of its groups and their members."""
    admin = AdminClient(client_options(settings))
    offsets = {
        group: {
            (tp.topic, tp.partition): tp.offset
            for tp in admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
            .result()
            .topic_partitions
        }
        for group in groups
    }
    members = {
        group: sorted(
            (m.member_id, sorted((tp.topic, tp.partition) for tp in m.assignment.topic_partitions))
            for m in described.result().members
        )
        for group, described in admin.describe_consumer_groups(groups).items()
    }
    return records_held(settings, TOPICS), offsets, members


def test_by_the_command_and_nothing_live_is_disturbed(
    kafka: Settings, calls: list[str], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLSCOPE_KAFKA", str(kafka.kafka))
    groups = [f"{kafka.processors.group}-fused"]
    before = settled(kafka, groups)
    chosen = [argument for call in calls for argument in ("--call", call)]
    state = ["--state", str(tmp_path)]

    told = run("replay", *chosen, *state, "--run", "by-hand", "--since", "2026-01-01", "--workers", "1")
    assert told.exit_code == 0, told.output
    assert f"digest {wanted}\n" in told.output and "3 calls, 6 legs, 30 s of audio" in told.output
    assert f"digest {wanted}  6 streams" in run("digest", *chosen).output
    told = run("digest", "--run", "by-hand", "--as", "by-hand", *state)
    assert told.exit_code == 0 and "the same as run by-hand" in told.output, told.output
    told = run("replay", *chosen, *state, "--until", "2026-01-01")
    assert told.exit_code == 1 and "There is no audio to replay of that time." in told.stderr
    assert run("replay", *chosen, *state, "--run", "by-hand").exit_code == 1

    assert settled(kafka, groups) == before
    admin = AdminClient(client_options(kafka))
    own = {f"replay.by-hand.{topic.name}" for topic in RESULTS}
    assert own <= set(admin.list_topics().topics)
    assert "cannot go with --forget" in run("replay", "--forget", "by-hand", "--speed", "1", *state).stderr
    told = run("replay", "--forget", "by-hand", *state)
    assert told.exit_code == 0 and all(name in told.output for name in own), told.output
    assert not own & set(admin.list_topics().topics)
    assert "holds no run by-hand" in run("replay", "--forget", "by-hand", *state).stderr


def test_chained(chained: System, kafka: Settings, demo_call: Recording, calls: list[str], wanted: str) -> None:
    other = kafka.model_copy(update={"kafka": chained.addresses.kafka})
    assert asyncio.run(analysed(chained, other, demo_call, calls)) == wanted


def settled(settings: Settings, groups: list[str]) -> Any:
    """That state when nothing changes it any more: workers commit once a second."""
    before = None
    while (now := state_of_the_cluster(settings, groups)) != before:
        before = now
        time.sleep(1.5)
    return now


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)
