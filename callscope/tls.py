"""TLS for every listener: one place for how certificates are loaded, and loaded again when they change."""

from __future__ import annotations

import ssl
from pathlib import Path

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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        loaded = _times(files)
        _load(context, settings)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{whose}: {files[0]} and {files[1]} are no certificate with its key: {error}") from error

    def look(socket: ssl.SSLObject | ssl.SSLSocket, name: str | None, of: ssl.SSLContext) -> None:
        nonlocal loaded
        try:
            now = _times(files)
            if now != loaded:
                _load(context, settings)
                loaded = now
                telemetry.certificate_loaded(whose)
        except (OSError, ssl.SSLError) as error:
            telemetry.certificate_kept(whose, str(error))

    context.sni_callback = look
    return context


def _load(context: ssl.SSLContext, settings: Tls) -> None:
    password = settings.key_password.get_secret_value() if settings.key_password is not None else ""
    assert settings.cert_file is not None
    context.load_cert_chain(settings.cert_file, settings.key_file, lambda: password)


def _times(files: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(file.stat().st_mtime_ns for file in files)
