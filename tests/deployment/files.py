"""The files of a deployment as values: the Dockerfile's stages, compose's services as Compose itself reads them, and
Kubernetes' objects. Knows their syntax, and nothing of what they should say.
"""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

DOCKERFILE = REPOSITORY / "Dockerfile"
ENVIRONMENT_EXAMPLE = REPOSITORY / ".env.example"
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
COMPOSE_PROGRAM = Path(sys.prefix) / "bin" / "docker-compose"
ALL_PROFILES = "*"

Instruction = tuple[str, str]
Service = dict[str, Any]


@cache
def stages() -> dict[str, list[Instruction]]:
    """The Dockerfile's instructions by the name of their stage, the first FROM."""
    text = DOCKERFILE.read_text()
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    read: dict[str, list[Instruction]] = {}
    for line in filter(None, map(str.strip, kept.replace("\\\n", " ").splitlines())):
        keyword, rest = line.split(maxsplit=1)
        if keyword == "FROM":
            read[rest.partition(" AS ")[2]] = []
        list(read.values())[-1].append((keyword, rest))
    return read


def base_of(stage: str) -> str:
    return arguments_of(stage, "FROM")[0].split()[0]


def arguments_of(stage: str, keyword: str) -> list[str]:
    """What stands behind each instruction of that name in the stage itself."""
    return [rest for found, rest in stages()[stage] if found == keyword]


def inherited(stage: str, keyword: str) -> list[str]:
    """The same, with those of the stages it is made from before its own."""
    base = base_of(stage)
    return [*(inherited(base, keyword) if base in stages() else []), *arguments_of(stage, keyword)]


def image_environment(stage: str) -> dict[str, str]:
    pairs = [pair for rest in inherited(stage, "ENV") for pair in shlex.split(rest)]
    return dict(pair.split("=", 1) for pair in pairs)


def image_command(stage: str) -> list[str]:
    return yaml.safe_load(inherited(stage, "CMD")[-1])


def health_command(stage: str) -> list[str]:
    """The command of the stage's HEALTHCHECK."""
    return yaml.safe_load(inherited(stage, "HEALTHCHECK")[-1].partition("CMD ")[2])


@cache
def compose(profiles: str | None, directory: Path = REPOSITORY, **settings: str) -> dict[str, Any]:
    """What Compose makes of compose.yaml with .env.example: interpolated, merged, checked against its schema.

    profiles: comma-separated; None for those of .env.example. directory: which its relative paths start from.
    Raises AssertionError with what Compose complains of.
    """
    command = [str(COMPOSE_PROGRAM), "--file", str(REPOSITORY / "compose.yaml")]
    command += ["--project-directory", str(directory), "--env-file", str(ENVIRONMENT_EXAMPLE)]
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")} | settings
    if profiles is not None:
        environment["COMPOSE_PROFILES"] = profiles
    told = subprocess.run(
        [*command, "config"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "warning" not in told.stderr.lower(), told.stderr
    return yaml.safe_load(told.stdout)


def services(profiles: str | None = ALL_PROFILES) -> dict[str, Service]:
    return compose(profiles)["services"]


def service_environment(service: Service) -> dict[str, str]:
    """What a service's process sees: the image's environment with compose's over it."""
    built = image_environment(service["build"]["target"]) if "build" in service else {}
    return {**built, **{name: value or "" for name, value in (service.get("environment") or {}).items()}}


def service_command(service: Service) -> list[str]:
    return service.get("command") or image_command(service["build"]["target"])


@cache
def kubernetes() -> list[dict[str, Any]]:
    """Every object of the base, as its files have it."""
    resources = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["resources"]
    files = [KUBERNETES / "base" / name for name in resources if name.endswith(".yaml")]
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def kubernetes_object(kind: str, name: str) -> dict[str, Any]:
    [found] = [made for made in kubernetes() if made["kind"] == kind and made["metadata"]["name"] == name]
    return found


def pod_of(deployment: str) -> dict[str, Any]:
    return kubernetes_object("Deployment", deployment)["spec"]["template"]["spec"]


def pods() -> dict[str, dict[str, Any]]:
    return {made["metadata"]["name"]: pod_of(made["metadata"]["name"]) for made in kubernetes() if is_deployment(made)}


def is_deployment(made: dict[str, Any]) -> bool:
    return made["kind"] == "Deployment"


def containers_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def module_of(command: list[str]) -> str | None:
    """What `python3 -m` starts."""
    return command[command.index("-m") + 1] if "-m" in command and "python" in command[0] else None


def options_of(command: list[str]) -> set[str]:
    """Names of the long options of a command."""
    return {part.partition("=")[0] for part in command if part.startswith("--")}


def seconds(duration: str) -> float:
    """Of a duration as Compose writes it: 1m30s."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", duration))
