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


def is_allowed_origin(origin: str | None, *, host: str, origins: tuple[str, ...], requested: str | None = None) -> bool:
    """Whether a page of this origin may send.

    Args:
        origin: the Origin header; None for programs that are no browser, which are not concerned.
        host: where the gateway listens. On loopback, pages served on this machine may send, by loopback's own names
            only: one elsewhere whose name is made to resolve to 127.0.0.1 would be of the requested host too.
        origins: further ones, from the configuration.
        requested: the Host header; beyond loopback, pages of that host may send, whatever their port. Some telephony
            programs that are no browsers send such an Origin too.
    """
    if origin is None or origin in origins:
        return True
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    if is_loopback(host):
        return is_loopback(parts.hostname)
    return requested is not None and parts.hostname == urlsplit(f"//{requested}").hostname
