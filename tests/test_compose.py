from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from callscope.config import load

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "callscope"}


def test_every_stage_and_program_has_a_service() -> None:
    commands = {tuple(service["command"][2:]) for service in OURS.values()}
    assert commands == {
        ("ingest",),
        ("processors", "detect"),
        ("processors", "extract"),
        ("processors", "infer"),
        ("sinks",),
    }


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_module_that_exists(name: str) -> None:
    assert importlib.util.find_spec(f"{OURS[name]['command'][2]}.__main__") is not None


@pytest.mark.parametrize("name", OURS)
def test_a_service_sets_settings_that_exist(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, value in OURS[name]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    assert load().kafka == "kafka:9092"


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_has_every_package() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    assert all(
        f"COPY {package} {package}" in dockerfile
        for package in ("callscope", "ingest", "processors", "sinks", "schemas")
    )
