"""TLS for every listener: one place for how certificates are loaded, and loaded again when they change."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from callscope import telemetry
from callscope.config import Tls
from callscope.errors import ConfigError


def server_context(settings: Tls, whose: str) -> ssl.SSLContext | None:
    """What a listener speaks TLS with; None where no certificate is configured.

    Before every handshake the files' times are looked at; changed ones are loaded, so that a renewed certificate needs
    no restart. A file that cannot be loaded then leaves the old certificate in force, and is logged.

    Args:
        settings: certificate and key.
        whose: the section, for errors: "ingest.tls".

    Raises:
        ConfigError: they cannot be loaded now.
    """
    if settings.cert_file is None or settings.key_file is None:
        return None
    files = (settings.cert_file, settings.key_file)
    try:
        loaded = _times(files)
        current = _context(settings)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{whose}: {files[0]} and {files[1]} are no certificate with its key: {error}") from error
    first = current

    def look(socket: ssl.SSLObject | ssl.SSLSocket, name: str | None, of: ssl.SSLContext) -> None:
        nonlocal loaded, current
        try:
            now = _times(files)
            if now != loaded:
                current = _context(settings)
                loaded = now
                telemetry.certificate_loaded(whose)
        except (OSError, ssl.SSLError) as error:
            telemetry.certificate_kept(whose, str(error))
        socket.context = current

    first.sni_callback = look
    return first


def listening_options(settings: Tls, whose: str, handshake_s: float) -> dict[str, Any]:
    """The keyword arguments with which asyncio's servers speak TLS; none where no certificate is configured.

    Args:
        settings: certificate and key.
        whose: the section, for errors.
        handshake_s: how long a client may take for the handshake.

    Raises:
        ConfigError: the certificate cannot be loaded.
    """
    context = server_context(settings, whose)
    return {} if context is None else {"ssl": context, "ssl_handshake_timeout": handshake_s}


def _context(settings: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    password = settings.key_password.get_secret_value() if settings.key_password is not None else ""
    assert settings.cert_file is not None, "checked by server_context"
    context.load_cert_chain(settings.cert_file, settings.key_file, lambda: password)
    return context


def _times(files: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(file.stat().st_mtime_ns for file in files)
