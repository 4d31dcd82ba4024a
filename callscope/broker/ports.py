"""Which ports of this machine the broker listens on. All on loopback only."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Final

from callscope.errors import PortTaken

HOST: Final = "127.0.0.1"
USUAL_PORT: Final = 9092


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now. Another program may still be quicker."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        if probe.connect_ex((HOST, port)) == 0:
            return False  # BSD and macOS would let us bind beside one that listens on all addresses
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as Java does: connections that linger do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """As many different ports that nobody uses now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


def choose_port(named: int | None, *, usual: bool = True) -> int:
    """The port for clients: the named one, else 9092 where free, else a free one.

    Args:
        named: from the configuration.
        usual: False passes 9092 over.

    Raises:
        PortTaken: the named one is in use.
    """
    if named is not None:
        if not is_free(named):
            raise port_taken(named)
        return named
    if usual and is_free(USUAL_PORT):
        return USUAL_PORT
    return free_ports(1)[0]


def port_taken(port: int) -> PortTaken:
    """The error, with what to do."""
    return PortTaken(
        f"Port {port} on {HOST}, where the embedded Kafka should listen, is in use. Leave CALLSCOPE_BROKER__PORT unset "
        "to have a free one, or name another; if it is a Kafka that listens there, use it with "
        f"CALLSCOPE_KAFKA={HOST}:{port}."
    )
