"""TLS for the gRPC port, with the certificate of the other ports; a changed one is loaded without a restart."""

from __future__ import annotations

from pathlib import Path

import grpc
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from callscope import telemetry
from callscope.config import Tls
from callscope.tls import server_context

WHOSE = "ingest.tls"


def server_credentials(settings: Tls) -> grpc.ServerCredentials | None:
    """What the port speaks TLS with; None where no certificate is configured.

    Raises:
        ConfigError: certificate or key cannot be loaded.
    """
    if server_context(settings, WHOSE) is None:  # says in words what is wrong with them
        return None
    assert settings.cert_file is not None and settings.key_file is not None
    files = (settings.cert_file, settings.key_file)
    loaded = _times(files)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Asked before each handshake; None: nothing new."""
        nonlocal loaded
        try:
            now = _times(files)
            if now == loaded:
                return None
            fresh = _configuration(settings)
        except (OSError, ValueError) as error:
            telemetry.certificate_kept(WHOSE, str(error))
            return None
        loaded = now
        telemetry.certificate_loaded(WHOSE)
        return fresh

    return grpc.dynamic_ssl_server_credentials(_configuration(settings), fetch)  # type: ignore[arg-type]  # may be None


def _configuration(settings: Tls) -> grpc.ServerCertificateConfiguration:
    assert settings.cert_file is not None and settings.key_file is not None
    password = settings.key_password.get_secret_value().encode() if settings.key_password is not None else None
    key = load_pem_private_key(settings.key_file.read_bytes(), password)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return grpc.ssl_server_certificate_configuration([(plain, settings.cert_file.read_bytes())])


def _times(files: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(file.stat().st_mtime_ns for file in files)
