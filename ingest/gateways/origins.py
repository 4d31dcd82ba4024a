"""Which web pages may send: a page of any site runs in the browser of somebody who can reach this gateway."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host is this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_allowed_origin(origin: str | None, *, host: str, origins: tuple[str, ...]) -> bool:
    """Whether a page of this origin may send.

    Args:
        origin: the Origin header; None for programs that are no browser, which are not concerned.
        host: where the gateway listens. On loopback, pages served on this machine may send: its dashboard.
        origins: further ones, from the configuration.
    """
    if origin is None or origin in origins:
        return True
    parts = urlsplit(origin)
    return is_loopback(host) and parts.scheme in ("http", "https") and is_loopback(parts.hostname or "")
