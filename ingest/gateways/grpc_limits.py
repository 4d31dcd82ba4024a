"""What one address and one tenant may take of the gRPC port: calls at once, messages and bytes a second."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from callscope.clock import monotonic
from callscope.config import Limits
from callscope.errors import TooManyFromOne
from ingest import telemetry
from ingest.gateways.pace import Pace


class Paces:
    """One call's limits of rates.

    Args:
        paces: True: in bytes, False: in messages.
    """

    def __init__(self, paces: list[tuple[Pace, bool]]) -> None:
        self._paces = paces

    async def hold(self, size: int) -> None:
        """Return when a message of so many bytes is due."""
        now = monotonic()
        delay_s = max(pace.delay_s(size if by_size else 1, now) for pace, by_size in self._paces)
        if delay_s > 0:
            telemetry.held_back()
            await asyncio.sleep(delay_s)


class CallLimits:
    """Counts the calls of the port. One call stands for one connection: HTTP/2 carries many on one.

    Args:
        limits: the settings.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._addresses: Counter[str] = Counter()
        self._tenants: Counter[str] = Counter()
        self._tenant_paces: dict[str, Pace] = {}

    @contextmanager
    def of_address(self, address: str) -> Iterator[None]:
        """A call from an address.

        Raises:
            TooManyFromOne: it has as many as it may.
        """
        limit = self._limits.connections_per_address
        if self._addresses[address] >= limit:
            raise TooManyFromOne(f"This address has {limit} calls, which is the limit.")
        with _counted(self._addresses, address):
            yield

    @contextmanager
    def of_tenant(self, tenant: str) -> Iterator[Paces]:
        """A tenant's call, and the rates that it has to keep.

        Raises:
            TooManyFromOne: the tenant has as many as it may.
        """
        limit = self._limits.connections_per_tenant
        if limit is not None and self._tenants[tenant] >= limit:
            raise TooManyFromOne(f"This tenant has {limit} calls, which is the limit.")
        with _counted(self._tenants, tenant):
            yield self._paces(tenant)
        if tenant not in self._tenants:
            self._tenant_paces.pop(tenant, None)

    def _paces(self, tenant: str) -> Paces:
        limits = self._limits
        paces = [(_pace(limits.messages_per_s), False), (_pace(limits.bytes_per_s), True)]
        if limits.tenant_bytes_per_s is not None:
            paces.append((self._tenant_paces.setdefault(tenant, _pace(limits.tenant_bytes_per_s)), True))
        return Paces(paces)


def _pace(per_s: float) -> Pace:
    return Pace(per_s, burst=per_s)


@contextmanager
def _counted(counts: Counter[str], key: str) -> Iterator[None]:
    counts[key] += 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
