"""The dashboard's files and the headers they go out with; a fixed list, never a path from a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILES: Final = (
    "index.html",
    "style.css",
    "icon.svg",
    "app.js",
    "calls.js",
    "card.js",
    "connection.js",
    "latency.js",
    "overload.js",
    "microphone.html",
    "microphone.js",
    "pcm-worklet.js",
    "sender.js",
    "strip.js",
    "token.js",
    "ways.js",
)
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?")
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}
"""On every HTTP answer."""


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is sent."""

    content_type: str
    body: bytes


def load_pages() -> Mapping[str, Page]:
    """The dashboard's files by URL path; "/" is the page itself."""
    folder = files("sinks").joinpath("dashboard")
    pages = {f"/{name}": Page(_TYPES[name[name.rindex(".") :]], folder.joinpath(name).read_bytes()) for name in _FILES}
    return {"/": pages["/index.html"], **pages}


def content_security_policy(host: str, further: tuple[str, ...] = ()) -> str:
    """The policy for a page served at a host: everything from there, nothing inline, no frame around it.

    Args:
        host: the request's Host header, checked by `is_known_host`.
        further: origins it may connect to besides.
    """
    connect = " ".join(("'self'", f"ws://{host}", f"wss://{host}", *further))
    return (
        f"default-src 'self'; connect-src {connect}; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def origin_of(url: str) -> str:
    """The scheme, host and port of an address, as a policy names them."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_known_host(host: str | None, *, loopback_only: bool, origins: tuple[str, ...]) -> bool:
    """Whether a request may have come by this Host header.

    A server that listens on loopback only answers to loopback names: else a page elsewhere whose name is made to
    resolve to 127.0.0.1 (DNS rebinding) would be of the same origin.

    Args:
        host: the Host header, None if there was none.
        loopback_only: the server listens on this machine only.
        origins: further addresses it is known by.
    """
    if host is None or not _HOST.fullmatch(host):
        return False
    if not loopback_only or host in {urlsplit(origin).netloc for origin in origins}:
        return True
    return re.sub(r":\d+$", "", host.lower()) in _LOOPBACK_NAMES


def is_allowed_origin(origin: str | None, host: str, origins: tuple[str, ...]) -> bool:
    """Whether a page of this origin may subscribe: the dashboard itself, or one that the configuration names.

    Args:
        origin: the Origin header; None for programs that are no browser, which are not concerned.
        host: the Host header.
        origins: further origins from the configuration.
    """
    if origin is None or origin in origins:
        return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc == host
