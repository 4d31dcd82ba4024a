"""Which pages may send audio: a browser sends whatever page it shows to any address, and says which one by Origin."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from callscope.config import Ingest

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def may_send(headers: Headers, settings: Ingest) -> bool:
    """Whether a request may open a stream: it is no browser's, or its page is of this host or a configured origin.

    The port does not matter: the dashboard's is another one. A gateway on loopback takes pages by loopback's own names
    only: one elsewhere whose name is made to resolve to 127.0.0.1 (DNS rebinding) would be of the same host.
    """
    origins = headers.get_all("Origin")
    if not origins:
        return True
    if len(origins) > 1:
        return False
    if origins[0] in settings.origins:
        return True
    parts = urlsplit(origins[0])
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return False
    if is_loopback(settings.host):
        return parts.hostname in _LOOPBACK_NAMES
    hosts = headers.get_all("Host")
    return len(hosts) == 1 and parts.hostname == urlsplit(f"//{hosts[0]}").hostname


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
