"""`callscope simulate PROTOCOL FILE`: speaks a platform's part of its protocol over the wire, from any recording.

One module per protocol, found by its name, with a click command called `command`.
"""

from __future__ import annotations

import importlib
import pkgutil

import click


class Simulators(click.Group):
    """The protocols: one command each, loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the modules of this package."""
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a module; None if there is no such module."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command
