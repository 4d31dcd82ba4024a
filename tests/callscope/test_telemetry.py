"""What goes into the log."""

from __future__ import annotations

import pytest

from callscope import telemetry


def test_what_the_kafka_client_repeats_is_said_seldom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1e6
    monkeypatch.setattr(telemetry, "monotonic", lambda: now_s)
    said = []
    for now_s in (1e6, 1e6 + 1, 1e6 + 29, 1e6 + 31):  # the clock reads it
        caplog.clear()
        telemetry.KAFKA_CLIENT.error("%s [%s] %s", "FAIL", "producer-1", "Connection refused")
        telemetry.KAFKA_CLIENT.error("%s [%s] %s", f"ERROR{now_s}", "producer-1", "of another kind")
        said.append(["FAIL" in record.getMessage() for record in caplog.records])
    assert said == [[True, False], [False], [False], [True, False]]
