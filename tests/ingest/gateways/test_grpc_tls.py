"""TLS and limits on the gRPC port."""

from __future__ import annotations

import asyncio
import datetime
import os
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from callscope.config import Settings
from callscope.errors import ConfigError
from ingest.gateways.grpc_port import GrpcListener
from schemas.v1.analysis_pb2 import AnalysisResult, AudioChunk, StreamStart
from schemas.v1.analysis_pb2_grpc import VoiceAnalysisStub
from tests.ingest.gateways.grpc_serving import configured, connected, listening
from tests.ingest.recording import RecordingPublisher

pytestmark = pytest.mark.integration

START = AudioChunk(start=StreamStart(call_id="c", legs=["customer"], encoding=StreamStart.S16LE, rate_hz=16_000))


def certificate(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    return cert_file, key_file


async def ready(listener: GrpcListener, trusted: bytes) -> list[str]:
    """The streams that are opened for a client which trusts that certificate."""
    credentials = grpc.ssl_channel_credentials(trusted)
    async with grpc.aio.secure_channel(f"localhost:{listener.port}", credentials) as channel:
        call = VoiceAnalysisStub(channel).StreamAnalysis(timeout=5)
        await call.write(START)
        message = await call.read()
        assert isinstance(message, AnalysisResult)
        call.cancel()
        return list(message.ready.streams)


async def test_tls_and_a_certificate_that_is_renewed(kafka: Settings, tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path, "first", b"a password")
    tls = {"cert_file": cert_file, "key_file": key_file, "key_password": "a password"}
    async with listening(configured(kafka, tls=tls), RecordingPublisher()) as listener:
        assert listener.address.startswith("grpcs://")
        first = cert_file.read_bytes()
        assert await ready(listener, first) == ["c/customer"]
        await asyncio.sleep(0.1)

        key_file.write_text("no key")
        os.utime(key_file, ns=(1, 1))
        assert await ready(listener, first) == ["c/customer"]
        await asyncio.sleep(0.1)

        certificate(tmp_path, "second", b"a password")
        second = cert_file.read_bytes()
        assert await ready(listener, second) == ["c/customer"]
        with pytest.raises(grpc.aio.AioRpcError):
            await ready(listener, first)


async def test_a_certificate_without_its_key_is_explained(kafka: Settings, tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path, "one")
    key_file.write_text("no key")
    with pytest.raises(ConfigError, match=r"ingest\.tls"):
        async with listening(
            configured(kafka, tls={"cert_file": cert_file, "key_file": key_file}), RecordingPublisher()
        ):
            pass


@pytest.mark.parametrize("limit", ["connections_per_address", "connections_per_tenant"])
async def test_one_address_and_one_tenant_have_so_many_calls(kafka: Settings, limit: str) -> None:
    settings = configured(kafka, limits={limit: 1})
    async with listening(settings, RecordingPublisher()) as listener, connected(listener) as channel:
        first = VoiceAnalysisStub(channel).StreamAnalysis()
        await first.write(START)
        await first.read()
        second = VoiceAnalysisStub(channel).StreamAnalysis()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await second.read()
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()


async def test_a_rate_is_kept_by_reading_later(kafka: Settings) -> None:
    publisher = RecordingPublisher()
    settings = configured(kafka, limits={"bytes_per_s": 64_000}, idle_timeout_s=5)
    async with listening(settings, publisher) as listener, connected(listener) as channel:
        call = VoiceAnalysisStub(channel).StreamAnalysis()
        await call.write(START)
        await call.read()
        for _ in range(4):  # the first 64 kB are free, the fourth message would be due after a second
            await call.write(AudioChunk(audio=bytes(32_000)))
        await asyncio.sleep(0.5)
        assert publisher.pcm("c/customer").size <= 3 * 16_000
        call.cancel()
