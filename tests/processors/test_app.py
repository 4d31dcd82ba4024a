from __future__ import annotations

from pathlib import Path

import pytest

from callscope.config import load
from processors.app import credentials


def test_a_cluster_without_security_needs_no_credentials() -> None:
    assert credentials(load(kafka="broker:9092")) is None


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_security_settings_reach_faust(protocol: str) -> None:
    security = {"protocol": protocol, "mechanism": "SCRAM-SHA-512", "username": "callscope", "password": "secret"}
    made = credentials(load(kafka="broker:9093", kafka_security=security))
    assert made.protocol.value == protocol
    assert made.mechanism.value == "SCRAM-SHA-512"
    assert (made.username, made.password) == ("callscope", "secret")
    assert (made.ssl_context is not None) == protocol.endswith("SSL")


def test_tls_without_sasl(tmp_path: Path) -> None:
    made = credentials(load(kafka="broker:9093", kafka_security={"protocol": "SSL"}))
    assert made.protocol.value == "SSL"
    assert made.context is not None
