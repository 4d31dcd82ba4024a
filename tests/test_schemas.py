"""`tools/check_schemas.py`: it passes on what is committed, and sees what would break a reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from check_schemas import breaking_changes  # noqa: E402  # a script beside the packages

FIELD = "uint64 start = 3;"
VALUE = "LEVEL = 1;"


def compiled(folder: Path, field: str = FIELD, value: str = VALUE) -> FileDescriptorSet:
    source, out = folder / "a.proto", folder / "set"
    source.write_text(f'syntax = "proto3"; message M {{ enum Kind {{ NONE = 0; {value} }} Kind kind = 1; {field} }}')
    assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={out}", str(source)]) == 0
    return FileDescriptorSet.FromString(out.read_bytes())


def served(folder: Path, method: str) -> FileDescriptorSet:
    source, out = folder / "a.proto", folder / "set"
    source.write_text(f'syntax = "proto3"; message M {{}} message N {{}} service S {{ {method} }}')
    assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={out}", str(source)]) == 0
    return FileDescriptorSet.FromString(out.read_bytes())


@pytest.mark.parametrize(
    "change",
    ["", "rpc Do(M) returns (stream N);", "rpc Do(stream N) returns (stream N);", "rpc Did(stream M) returns (N);"],
)
def test_a_change_that_breaks_a_services_clients_is_seen(change: str, tmp_path: Path) -> None:
    method = "rpc Do(stream M) returns (stream N);"
    released = served(tmp_path, method)
    assert breaking_changes(released, served(tmp_path, method + " rpc Also(M) returns (N);")) == []
    assert breaking_changes(released, served(tmp_path, change))


def test_what_is_committed_passes() -> None:
    subprocess.run([sys.executable, "tools/check_schemas.py"], cwd=ROOT, check=True)


def test_additions_break_nobody(tmp_path: Path) -> None:
    released = compiled(tmp_path)
    assert breaking_changes(released, released) == []
    assert breaking_changes(released, compiled(tmp_path, FIELD + " uint64 end = 4;", VALUE + " EDGE = 2;")) == []


@pytest.mark.parametrize(
    "change",
    [
        {"field": ""},
        {"field": "uint64 begin = 3;"},
        {"field": "int64 start = 3;"},
        {"field": "uint64 start = 4;"},
        {"field": "repeated uint64 start = 3;"},
        {"value": ""},
        {"value": "LEVEL = 2;"},
    ],
)
def test_a_change_that_breaks_readers_is_seen(change: dict[str, str], tmp_path: Path) -> None:
    assert breaking_changes(compiled(tmp_path), compiled(tmp_path, **change))
