"""The command line: one function a command; heavy modules are imported when their command runs."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from callscope import logs
from callscope.clock import wall_ns
from callscope.config import Settings, load
from callscope.errors import CallscopeError
from callscope.evaluation.commands import eval_command
from callscope.exchange.commands import export_command, import_command
from callscope.replay.commands import digest_command, replay_command
from callscope.simulate import Simulators

console = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)


class _Commands(click.Group):
    """Turns an error of ours into one message, and Ctrl-C into a quiet end."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CallscopeError as error:
            complaints.print(f"[bold red]callscope:[/] {_plain(str(error))}")
            ctx.exit(1)
        except KeyboardInterrupt:
            console.print("stopped")
            ctx.exit(130)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="callscope")
def main() -> None:
    """Callscope: real-time voice analytics for call centres, on Kafka.

    \b
    First steps:
      callscope demo          start everything and play a call through it
      callscope up            start everything and keep it running
      callscope send FILE     send a recording to it as if it were a call, and see the results
      callscope doctor        is everything here that it needs?

    Settings come from callscope.toml and from CALLSCOPE_… in the environment; see docs/operations.md.
    """  # noqa: D301  # click reads the \b: keep these lines as they are


for command in (export_command, import_command, replay_command, digest_command, eval_command):
    main.add_command(command)


@main.command()
@click.option("--chained", is_flag=True, help="One worker process a stage, joined by Kafka, instead of one for all.")
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Worker processes (chained: a stage). Default: one a core."
)
@click.option("--ephemeral", is_flag=True, help="Keep nothing: Kafka's data goes when it ends.")
@click.option("--verbose", "-v", is_flag=True, help="Show what every part logs.")
def up(chained: bool, workers: int | None, ephemeral: bool, verbose: bool) -> None:
    """Start the whole system and keep it running.

    Starts an own Kafka, unless CALLSCOPE_KAFKA names one, then the gateway, the workers and the dashboard.
    """
    from callscope import supervisor

    settings = _settings(verbose)
    console.print("Callscope is starting …")
    with supervisor.running(
        settings, chained=chained, ephemeral=ephemeral, free_ports=False, say=console.print, workers=workers
    ) as system:
        console.print("Ready. Send a call:  callscope send FILE     Stop: Ctrl-C")
        system.wait()


@main.command()
@click.option("--chained", is_flag=True, help="One worker process a stage.")
@click.option("--once", is_flag=True, help="End when the call is over (the default where output is not a terminal).")
@click.option("--verbose", "-v", is_flag=True, help="Show what every part logs.")
def demo(chained: bool, once: bool, verbose: bool) -> None:
    """Start the whole system and play a call through it.

    The call is synthetic speech: a customer with a bill that is too high, and an agent. Nothing is kept.
    """
    from importlib.resources import as_file, files

    from callscope import supervisor
    from callscope.client import recording
    from callscope.client.showing import send_and_show

    settings = _settings(verbose)
    console.print("Callscope demo: starting Kafka, the gateway, the workers and the dashboard …")
    with as_file(files("callscope.demo") / "call.ogg") as path:
        call = recording.read(path)
    with supervisor.running(
        settings, chained=chained, ephemeral=True, free_ports=True, say=console.print, workers=1
    ) as system:
        console.print("\nOpen the dashboard to watch this call as a supervisor would. Its results as they come:\n")
        asyncio.run(
            send_and_show(
                call,
                system.addresses.gateway,
                system.addresses.results,
                "demo-call",
                ("customer", "agent"),
                1.0,
                console,
            )
        )
        system.check()
        if not once and console.is_terminal:
            console.print(f"\nStill running: {system.addresses.dashboard}   Stop: Ctrl-C")
            console.print(
                f"Send a call of your own:  callscope send FILE --gateway {system.addresses.gateway} "
                f"--results {system.addresses.results}"
            )
            system.wait()


@main.command()
@click.option("--legs", type=click.IntRange(1, 5_000), help="One step of so many legs. Default: ramp to the limit.")
@click.option("--seconds", type=click.FloatRange(5, 86_400), default=30.0, show_default=True, help="How long a step.")
@click.option("--warm-up", type=click.FloatRange(0, 86_400), default=30.0, show_default=True,
              help="Seconds before the first step, with its load and unmeasured.")  # fmt: skip
@click.option(
    "--recordings",
    type=click.Path(exists=True, path_type=Path),
    help="A WAV file, or a folder of them, whose voices speak. Default: the shipped call.",
)
@click.option(
    "--subscribers", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Followers of all calls."
)
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes. Default: one a core.")
@click.option("--chained", is_flag=True, help="Workers of their own for each stage.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the table to a file as well.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw latency and CPU over legs: PNG or SVG."
)
@click.option("--verbose", "-v", is_flag=True, help="Show what every part logs.")
def bench(**options: Any) -> None:
    """Find out how many legs this machine carries.

    Starts the whole system, with a Kafka of its own that keeps nothing, and real-time two-party calls into it, more and
    more of them, until 1 % of the results take longer than 100 ms. Each leg speaks 45 to 50 % of the time. Takes some
    minutes, the first to warm up; the load generator runs on the same machine, and its share is shown.
    """
    from callscope.bench.command import measure

    measure(_settings(options.pop("verbose")), console=console, **options)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--call-id", help="Default: the file's name and a random part. With several files a number is added.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
@click.option("--gateway", help="The gateway's address. Default: as configured, on this machine.")
@click.option("--results", "sink", help="The sink's address. Default: as configured, on this machine.")
@click.option("--quiet", "-q", is_flag=True, help="Only send; show no results.")
def send(
    files: tuple[Path, ...],
    legs: str,
    call_id: str | None,
    speed: float,
    gateway: str | None,
    sink: str | None,
    quiet: bool,
) -> None:
    """Send recordings as calls and show their results.

    Any format libsndfile reads: WAV, FLAC, Ogg, MP3. Stereo files are two legs of one call, left first. Several files
    are sent one after the other.
    """
    from callscope.client import recording
    from callscope.client.showing import send_and_show

    settings = _settings(False)
    gateway = gateway or _gateway(settings)
    results = None if quiet else sink or _results(settings)
    names = tuple(name.strip() for name in legs.split(","))
    for number, path in enumerate(files):
        audio = recording.read(path)
        channels = names[: audio.channels]
        if len(channels) < audio.channels:
            raise click.BadParameter(f"{path} has {audio.channels} channels, --legs names {len(names)}.")
        identity = call_id or f"{audio.name[:100]}-{uuid.uuid4().hex[:6]}"
        if call_id and len(files) > 1:
            identity = f"{call_id}-{number + 1}"
        console.print(
            f"{path}: {audio.duration_s:.1f} s, {audio.rate_hz} Hz, {' and '.join(channels)}, call {identity}"
        )
        asyncio.run(send_and_show(audio, gateway, results, identity, channels, speed, console, _token(settings)))


@main.command()
@click.option("--call", "calls", multiple=True, help="Only this call; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Every message as a line of JSON.")
@click.option("--results", "sink", help="The sink's address. Default: as configured, on this machine.")
def watch(calls: tuple[str, ...], as_json: bool, sink: str | None) -> None:
    """Show results as they come, until Ctrl-C."""
    from callscope.client import results, telling

    settings = _settings(False)

    async def follow() -> None:
        async with results.subscription(sink or _results(settings), calls=calls, token=_token(settings)) as messages:
            async for message in messages:
                if as_json:
                    click.echo(json.dumps(message))
                elif message["type"] == "subscribed":
                    console.print(f"Watching; {len(message['running'])} calls are running. Stop: Ctrl-C")
                elif line := telling.line_of(message):
                    console.print(f"{message['call_id']:<24} {_plain(line)}")

    asyncio.run(follow())


@main.group("simulate", cls=Simulators, help="Speak a telephony platform's part over the wire, from a recording.")
def simulate() -> None:
    """A group; the commands are modules of `callscope.simulate`."""


@main.command()
def topics() -> None:
    """Show what Kafka's topics hold.

    Asks the cluster that CALLSCOPE_KAFKA names, or else the broker that `callscope up` has started on its usual port.
    """
    from callscope import kafka
    from callscope.topics import DAY_MS, TOPICS

    settings = _reachable(_settings(False))
    held = kafka.records_held(settings)
    table = Table("topic", "key", "value", "by", "parts", "records", "kept", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for topic in TOPICS:
        partitions, records = held.get(topic.name, (0, 0))
        value, kept = topic.value.rpartition(".")[2], f"{topic.retention_ms // DAY_MS} d"
        table.add_row(topic.name, topic.key, value, topic.writer, str(partitions), str(records), kept)
    console.print(table)


@main.command("dead-letters")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=24.0, show_default=True, help="How old.")
@click.option("--json", "as_json", is_flag=True, help="Each as a line of JSON, with key and value in Base64.")
def dead_letters(hours: float, as_json: bool) -> None:
    """Show records that could not be worked on, and why.

    Asks the cluster that CALLSCOPE_KAFKA names, or else the broker that `callscope up` has started on its usual port.
    """
    from google.protobuf.json_format import MessageToDict

    from callscope.dead_letters import line_of, read

    settings = _reachable(_settings(False))
    found = 0
    for letter in read(settings, since_ms=wall_ns() // 1_000_000 - round(hours * 3_600_000)):
        found += 1
        if as_json:
            click.echo(json.dumps(MessageToDict(letter, preserving_proto_field_name=True)))
        else:
            console.print(_plain(line_of(letter)))
    if not as_json:
        console.print(
            f"{found} records of the last {hours:g} h could not be worked on." if found else "None: all is well."
        )


@main.command()
def doctor() -> None:
    """Check this machine, and say how to mend what is missing."""
    from callscope.doctor import examine

    settings = _settings(False)
    wrong = 0
    for finding in examine(settings):
        mark = "[green]ok[/]  " if finding.good else "[red]no[/]  "
        console.print(f"{mark}{finding.what:<15} {_plain(finding.says)}")
        if not finding.good:
            wrong += 1
            console.print(f"    {'':<15} → {_plain(finding.mend)}")
    if wrong:
        sys.exit(1)
    console.print("Everything is here. `callscope up` starts it.")


def _settings(verbose: bool) -> Settings:
    settings = load() if verbose else load(log_level="warning")
    logs.configure_logging(settings.log_level)
    return settings


def _reachable(settings: Settings) -> Settings:
    """With the address of the broker that `callscope up` starts, where no cluster is named."""
    from callscope.broker.ports import USUAL_PORT

    if settings.kafka is not None:
        return settings
    return settings.model_copy(update={"kafka": f"127.0.0.1:{settings.broker.port or USUAL_PORT}"})


def _token(settings: Settings) -> str | None:
    return settings.token.get_secret_value() if settings.token is not None else None


def _gateway(settings: Settings) -> str:
    return f"{'ws' if settings.ingest.tls.cert_file is None else 'wss'}://{settings.ingest.host}:{settings.ingest.port}/v1/stream"


def _results(settings: Settings) -> str:
    return f"{'ws' if settings.sink.tls.cert_file is None else 'wss'}://{settings.sink.host}:{settings.sink.port}/v1/results"
