"""Generates `schemas/v1/*_pb2.py` and their typed stubs from the .proto files, with the protoc of the lock file."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def generate(into: Path) -> None:
    """Write the generated code below `into`, laid out as in the repository.

    Raises:
        SystemExit: protoc refused a file; it has said why.
    """
    protos = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "schemas" / "v1").glob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={ROOT}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",
        f"--python_out={into}",
        f"--mypy_out={into}",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc refused a schema; its message is above.")


if __name__ == "__main__":
    generate(ROOT)
