"""`callscope simulate PROTOCOL FILE`: one command for each protocol, made where the protocol is."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

PROTOCOLS: Final = ("twilio",)
"""Each is a module of this package, which has its `command`."""


class _Protocols(click.Group):
    """Loads a protocol's module when its command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(PROTOCOLS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in PROTOCOLS:
            return None
        command = import_module(f"callscope.simulate.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Protocols)
def simulate() -> None:
    """Call the gateway as a telephony platform would, with a recording as the call."""
