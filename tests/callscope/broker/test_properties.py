from callscope.broker.properties import server_properties


def parsed(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_listens_on_loopback_only() -> None:
    settings = parsed(server_properties(9092, 9093, "data"))
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"


def test_an_index_holds_a_whole_segment() -> None:
    """An entry (12 bytes at most, in the time index) comes every 4,096 bytes of records."""
    settings = parsed(server_properties(9092, 9093, "data"))
    assert int(settings["log.index.size.max.bytes"]) >= int(settings["log.segment.bytes"]) // 4_096 * 12


def test_retention_only_when_configured() -> None:
    assert "log.retention.hours" not in parsed(server_properties(1, 2, "data"))
    assert parsed(server_properties(1, 2, "data", 48))["log.retention.hours"] == "48"
