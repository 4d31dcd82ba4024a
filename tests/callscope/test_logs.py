"""What goes into the log."""

from __future__ import annotations

import logging

import pytest

from callscope import logs
from ingest.telemetry import KAFKA_CLIENT


def test_what_the_kafka_client_repeats_is_said_seldom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1e6
    monkeypatch.setattr(logs, "monotonic", lambda: now_s)
    said = []
    for now_s in (1e6, 1e6 + 1, 1e6 + 29, 1e6 + 31):  # the clock reads it
        caplog.clear()
        KAFKA_CLIENT.error("%s [%s] %s", "FAIL", "producer-1", "Connection refused")
        KAFKA_CLIENT.error("%s [%s] %s", f"ERROR{now_s}", "producer-1", "of another kind")
        said.append(["FAIL" in record.getMessage() for record in caplog.records])
    assert said == [[True, False], [False], [False], [True, False]]


def test_what_aiokafka_repeats_is_said_seldom_and_all_others_are_heard(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1e6
    monkeypatch.setattr(logs, "monotonic", lambda: now_s)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure_logging("info")
        for now_s in (1e6, 1e6 + 1, 1e6 + 2, 1e6 + 11):
            logging.getLogger("aiokafka.consumer").error("at %d", now_s)
            logging.getLogger("processors").error("still here")
    finally:
        root.handlers, root.level = handlers, level
    told = [line.rsplit("  ", 1)[1] for line in capfd.readouterr().err.splitlines()]
    assert told.count("still here") == 4
    assert [line for line in told if line != "still here"] == ["at 1000000", "at 1000011 (and 2 lines before it)"]
