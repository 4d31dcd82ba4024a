"""Checks the schemas: the committed code is what protoc makes of them, and nothing on the wire has changed its meaning.

The second check compares them with `schemas/v1/released.binpb`, the descriptors as last released: a message, field,
enum value or method may be added, never removed, renumbered, renamed, retyped or made repeated. `--release` writes that
file anew.
"""

from __future__ import annotations

import filecmp
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from generate_schemas import ROOT, generate, sources
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

RELEASED = ROOT / "schemas" / "v1" / "released.binpb"


def descriptors() -> FileDescriptorSet:
    """The schemas as they stand, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        include = files("grpc_tools") / "_proto"
        if protoc.main(["protoc", f"-I{ROOT}", f"-I{include}", f"--descriptor_set_out={out}", *sources()]) != 0:
            sys.exit("protoc refused a schema; its message is above.")
        return FileDescriptorSet.FromString(out.read_bytes())


def interface(schemas: FileDescriptorSet) -> dict[str, str]:
    """Everything a reader of old records or a client relies on: path of a field, value or method → what it is."""

    def of_enum(prefix: str, enum: EnumDescriptorProto) -> Iterator[tuple[str, str]]:
        for value in enum.value:
            yield f"{prefix}.{enum.name}={value.number}", value.name

    def of_message(prefix: str, message: DescriptorProto) -> Iterator[tuple[str, str]]:
        name = f"{prefix}.{message.name}"
        for field in message.field:
            yield (
                f"{name}={field.number}",
                f"{field.name} {field.Type.Name(field.type)} {field.type_name} {field.Label.Name(field.label)}",
            )
        for nested in message.nested_type:
            yield from of_message(name, nested)
        for enum in message.enum_type:
            yield from of_enum(name, enum)

    def of_service(prefix: str, service: ServiceDescriptorProto) -> Iterator[tuple[str, str]]:
        for method in service.method:
            streams = f"streams {method.client_streaming} {method.server_streaming}"
            yield f"{prefix}.{service.name}.{method.name}", f"{method.input_type} {method.output_type} {streams}"

    found: dict[str, str] = {}
    for file in schemas.file:
        for message in file.message_type:
            found.update(of_message(file.package, message))
        for enum in file.enum_type:
            found.update(of_enum(file.package, enum))
        for service in file.service:
            found.update(of_service(file.package, service))
    return found


def breaking_changes(released: FileDescriptorSet, now: FileDescriptorSet) -> list[str]:
    """One line for every change that a reader of old records would trip over."""
    after = interface(now)
    return [
        f"{path}: was `{was.strip()}`, is now {f'`{after[path].strip()}`' if path in after else 'gone'}"
        for path, was in interface(released).items()
        if after.get(path) != was
    ]


def stale_files() -> list[str]:
    """Names of committed generated files that differ from what protoc makes now."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        made = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        names = [str(path.relative_to(folder)) for path in made]
        return [name for path, name in zip(made, names, strict=True) if not filecmp_equal(path, ROOT / name)]


def filecmp_equal(one: Path, other: Path) -> bool:
    """Whether both exist with the same bytes."""
    return other.exists() and filecmp.cmp(one, other, shallow=False)


def main() -> None:
    """Run both checks; exit with 1 and the reasons if one fails."""
    now = descriptors()
    if "--release" in sys.argv:
        RELEASED.write_bytes(now.SerializeToString(deterministic=True))
        print(f"wrote {RELEASED.relative_to(ROOT)}")
        return
    problems = [f"{name} is not what `make proto` makes: run it and commit the result" for name in stale_files()]
    problems += breaking_changes(FileDescriptorSet.FromString(RELEASED.read_bytes()), now)
    if problems:
        sys.exit("schemas:\n  " + "\n  ".join(problems))
    print(f"schemas: {len(interface(now))} fields, values and methods, generated code up to date, nothing broken")


if __name__ == "__main__":
    main()
