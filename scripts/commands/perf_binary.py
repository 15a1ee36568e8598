"""A perf_analyzer that runs on this machine: the one on PATH, else the one inside an old tritonclient wheel.

Later wheels carry none, or one for a newer C library. Does not know what will be measured.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from commands import CommandFailed

WHEEL = "tritonclient==2.50.0"
PLATFORM = "manylinux1_x86_64"
MEMBER = "tritonclient-2.50.0.data/data/bin/perf_analyzer"
# What the binary is linked with and a plain system lacks; the nvidia-pytriton wheel carries both under other names.
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


@dataclass(frozen=True)
class PerfBinary:
    """The program, and the folder with the shared libraries it needs, if those of the system are not enough."""

    path: Path
    libraries: Path | None

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        if self.libraries is None:
            return dict(inherited)
        searched = filter(None, [str(self.libraries), inherited.get("LD_LIBRARY_PATH")])
        return {**inherited, "LD_LIBRARY_PATH": os.pathsep.join(searched)}


def find_perf_analyzer() -> PerfBinary:
    """The program, downloaded at the first call into the virtual environment.

    Raises CommandFailed when it cannot be had.
    """
    if (on_path := shutil.which("perf_analyzer")) is not None:
        return PerfBinary(Path(on_path), None)
    cache = Path(sys.prefix, "perf_analyzer")
    binary = cache / "perf_analyzer"
    if not binary.exists():
        cache.mkdir(exist_ok=True)
        _unpack(binary)
    return PerfBinary(binary, _linked_libraries(cache))


def _unpack(binary: Path) -> None:
    """Puts the program in its place in one step, so that two commands at once do not meet half of it."""
    print(f"perf_analyzer: downloading the wheel {WHEEL} that carries it", flush=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--platform={PLATFORM}", f"--dest={folder}"]
        command = [sys.executable, "-m", "pip", "download", *options, WHEEL]
        downloaded = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if downloaded.returncode != 0 or not wheels:
            reason = downloaded.stderr.strip().rpartition("\n")[2]
            raise CommandFailed(f"perf_analyzer is not on PATH and {WHEEL} cannot be downloaded: {reason}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            unpacked = Path(wheel.extract(MEMBER, folder))
        unpacked.chmod(0o755)
        unpacked.replace(binary)


def _linked_libraries(cache: Path) -> Path:
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        raise CommandFailed("perf_analyzer needs libraries of the package nvidia-pytriton, which is not installed")
    bundled = Path(package.origin).parent.parent / "nvidia_pytriton.libs"
    libraries = cache / "lib"
    libraries.mkdir(exist_ok=True)
    for name, pattern in LIBRARIES.items():
        found = sorted(bundled.glob(pattern))
        if not found:
            raise CommandFailed(f"perf_analyzer needs {name}, and {bundled} holds no {pattern}")
        if not (libraries / name).exists():
            (libraries / name).unlink(missing_ok=True)
            (libraries / name).symlink_to(found[0])
    return libraries
