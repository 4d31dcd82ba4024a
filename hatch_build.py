"""Compiles `processors/stages/native/` while the project is built or installed, where there is a C compiler.

Without one, or where it fails, the project installs all the same: openSMILE then does that work itself, more slowly,
with the same results. `callscope doctor` says which it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("processors/stages/native/spectral_resampling.c")
FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=off", "-fPIC", "-shared")  # fused operations would change results


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own default
    """Puts the library beside its source, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; called by hatchling before it collects the files."""
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if self.target_name != "wheel" or sys.platform != "linux" or compiler is None:
            return
        source = Path(self.root) / SOURCE
        library = source.with_suffix(".so")
        command = [*compiler.split(), *FLAGS, "-o", str(library), str(source), "-lm", "-lpthread"]
        if subprocess.run(command, check=False).returncode != 0:
            library.unlink(missing_ok=True)
            self.app.display_warning(f"{SOURCE} did not compile; openSMILE's own resampling is used.")
            return
        if version != "editable":
            build_data["force_include"][str(library)] = str(SOURCE.with_suffix(".so"))
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
