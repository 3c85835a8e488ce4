"""Build hook: compiles the functionality module and generates the protobuf code, into the tree and the wheel."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GENERATED = "proto/generated"


class KeywattBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling leaves its parameter open
    """Runs before a wheel, editable or not, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build both; a failure of either fails the build."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        subprocess.run(["make", "-s", "-C", str(root / "hsm" / "module")], check=True)
        generate(root)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def generate(root: Path) -> None:
    """Generate messages, stubs and their types from proto/."""
    output = root / GENERATED
    output.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path.relative_to(root / "proto")) for path in (root / "proto" / "keywatt").rglob("*.proto"))
    # third_party is for the compiler only: its Python code comes from googleapis-common-protos.
    includes = [f"-I{root / 'proto'}", f"-I{root / 'proto' / 'third_party'}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes]
    command += [f"--{plugin}_out={output}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
    bin_directory = sysconfig.get_path("scripts")
    subprocess.run([*command, *sources], check=True, env={"PATH": f"{bin_directory}:/usr/bin:/bin"})
    for directory in [output / "keywatt", *(path for path in (output / "keywatt").rglob("*") if path.is_dir())]:
        if directory.name != "__pycache__":
            (directory / "__init__.py").touch()
            (directory / "py.typed").touch()
