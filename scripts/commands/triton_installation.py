"""Where the tritonserver of this machine is and what it needs around it to run our Python model.

That of NVIDIA's container image comes first, else the one inside the nvidia-pytriton wheel. Starts nothing.
"""

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from commands import CommandFailed

IMAGE_SERVER = Path("/opt/tritonserver")
STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class TritonInstallation:
    """A tritonserver, its folder of backends, and the folders in which its shared libraries lie."""

    binary: Path
    backends: Path
    libraries: tuple[Path, ...]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The environment in which the server's stub runs model.py with this interpreter and its packages."""
        # The stub is linked with libpython and finds the interpreter by the name "python3" on PATH.
        libraries = [*map(str, self.libraries), str(sysconfig.get_config_var("LIBDIR"))]
        packages = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        return {
            **inherited,
            "PATH": _joined(str(Path(sys.prefix, "bin")), inherited.get("PATH")),
            "PYTHONPATH": _joined(*packages),
            "LD_LIBRARY_PATH": _joined(*libraries, inherited.get("LD_LIBRARY_PATH")),
        }


def find_installation(workspace: Path) -> TritonInstallation:
    """The server to use; what has to be put together for it is written into the folder `workspace`.

    Raises CommandFailed when there is none for this Python.
    """
    if (IMAGE_SERVER / "bin" / "tritonserver").exists():
        if _runs_this_python(IMAGE_SERVER / "backends" / "python" / STUB):
            return TritonInstallation(IMAGE_SERVER / "bin" / "tritonserver", IMAGE_SERVER / "backends", ())
        print(f"{IMAGE_SERVER} is not for Python {_python_version()}; using the packaged one", flush=True)
    return _packaged_server(workspace)


def _packaged_server(workspace: Path) -> TritonInstallation:
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        raise CommandFailed(f"no tritonserver: there is neither {IMAGE_SERVER} nor the package nvidia-pytriton")
    # The package itself is never imported: doing so would start threads and settings of its own.
    server = Path(package.origin).parent / "tritonserver"
    stub = server / "python_backend_stubs" / _python_version() / STUB
    if not stub.exists():
        raise CommandFailed(f"the packaged tritonserver is not for Python {_python_version()}: no {stub}")
    backends = workspace / "backends"
    shutil.copytree(server / "backends" / "python", backends / "python")
    # The backend looks for its stub beside itself and nowhere else.
    shutil.copy2(stub, backends / "python" / STUB)
    bundled = server.parent.parent / "nvidia_pytriton.libs"
    return TritonInstallation(server / "bin" / "tritonserver", backends, (bundled,))


def _runs_this_python(stub: Path) -> bool:
    linked = re.search(rb"libpython(3\.\d+)\.so", stub.read_bytes()) if stub.exists() else None
    return linked is not None and linked[1].decode() == _python_version()


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _joined(*parts: str | None) -> str:
    return os.pathsep.join(filter(None, parts))
