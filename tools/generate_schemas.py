"""Generates `*_pb2.py`, for services `*_pb2_grpc.py`, and their typed stubs, with the protoc of the lock file."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (ROOT / "schemas" / "v1", ROOT / "schemas" / "webex")
"""Our own schemas, and those of a platform that calls a service of ours."""


def sources() -> list[str]:
    """Every .proto, relative to the repository."""
    return sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in folder.glob("*.proto"))


def services() -> list[str]:
    """Those of them that define a service."""
    return [source for source in sources() if "\nservice " in (ROOT / source).read_text()]


def generate(into: Path) -> None:
    """Write the generated code below `into`, laid out as in the repository.

    Raises:
        SystemExit: protoc refused a file; it has said why.
    """
    _run([f"--python_out={into}", f"--mypy_out={into}", *sources()])
    _run([f"--grpc_python_out={into}", f"--mypy_grpc_out={into}", *services()])


def _run(arguments: list[str]) -> None:
    plugins = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--proto_path={ROOT}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        *arguments,
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc refused a schema; its message is above.")


if __name__ == "__main__":
    generate(ROOT)
