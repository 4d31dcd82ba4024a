from __future__ import annotations

import importlib.util
import tomllib
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


@pytest.mark.parametrize("name", OURS)
def test_a_service_says_how_it_is_and_is_started_again(name: str) -> None:
    _, command, _, module, address = OURS[name]["healthcheck"]["test"]
    assert (command, OURS[name]["restart"]) == ("python", "unless-stopped")
    assert importlib.util.find_spec(module) is not None
    settings = load()
    ports = {"ingest": settings.ingest.port, "sink": settings.sink.port}
    port = ports.get(name, OURS[name]["environment"].get("CALLSCOPE_PROCESSORS__METRICS_PORT"))
    assert address == f"http://127.0.0.1:{port}/readyz"


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_published_is_what_is_listened_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, value in (OURS["ingest"]["environment"] | OURS["sink"]["environment"]).items():
        monkeypatch.setenv(variable, str(value))
    settings = load()
    inside = [int(port.rpartition(":")[2]) for name in ("ingest", "sink") for port in OURS[name]["ports"]]
    ingest = settings.ingest
    assert inside == [ingest.port, ingest.grpc.port, ingest.audiosocket_port, settings.sink.port]


def test_the_image_has_what_its_build_needs() -> None:
    """What pyproject.toml names: the readme, the licences, the build hook."""
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    before = dockerfile[: dockerfile.index("RUN uv sync --frozen --no-dev --no-editable")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "custom" in project["tool"]["hatch"]["build"]["hooks"]
    copied = {word for line in before.splitlines() if line.startswith("COPY ") for word in line.split()[1:-1]}
    needed = {project["project"]["readme"], *project["project"]["license-files"], "hatch_build.py", "uv.lock"}
    assert needed <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_has_every_package() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    assert all(
        f"COPY {package} {package}" in dockerfile
        for package in ("callscope", "ingest", "processors", "sinks", "schemas")
    )
