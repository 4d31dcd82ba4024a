from __future__ import annotations

from pathlib import Path

import pytest

from callscope import config
from callscope.errors import ConfigError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_need_nothing() -> None:
    settings = config.load()
    assert settings.kafka is None
    assert settings.ingest.host == settings.sink.host == "127.0.0.1"


def test_the_environment_wins_over_the_file_and_leaves_the_rest_of_a_section(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "callscope.toml").write_text("[ingest]\nport = 1111\nmax_streams = 7\n")
    monkeypatch.setenv("CALLSCOPE_INGEST__PORT", "2222")
    settings = config.load()
    assert (settings.ingest.port, settings.ingest.max_streams) == (2222, 7)


def test_a_misspelt_setting_is_an_error_that_names_it(elsewhere: Path) -> None:
    (elsewhere / "callscope.toml").write_text("[ingest]\nprot = 1111\n")
    with pytest.raises(ConfigError, match=r"ingest\.prot"):
        config.load()


def test_an_impossible_value_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCOPE_INGEST__PORT", "70000")
    with pytest.raises(ConfigError, match=r"ingest\.port: .*65535"):
        config.load()


def test_a_password_is_not_shown() -> None:
    settings = config.load(kafka_security={"password": "hunter2"})
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("audiohook", "says"),
    [
        ({"keys": [{"api_key": "k", "client_secret": "not Base64!"}]}, "must be Base64"),
        ({"keys": [{"api_key": "k", "client_secret": "c2hvcnQ="}]}, "at least 16 bytes"),
        ({"keys": [{"api_key": ""}]}, "api_key"),
        ({"external_leg": "caller", "internal_leg": "caller"}, "must differ"),
        ({"external_leg": "", "internal_leg": ""}, "must differ"),
        ({"external_leg": "a/b"}, "external_leg"),
    ],
)
def test_audiohook_settings_are_checked_and_keep_their_secrets(audiohook: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(ingest={"audiohook": audiohook})
    assert "c2hvcnQ=" not in str(caught.value)


def test_an_audiohook_channel_may_be_left_out() -> None:
    assert config.load().ingest.audiohook.legs == {"external": "customer", "internal": "agent"}
    settings = config.load(ingest={"audiohook": {"internal_leg": ""}})
    assert settings.ingest.audiohook.legs == {"external": "customer"}
