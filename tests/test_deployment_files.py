"""Dockerfile and compose.yaml against the code: what they name must exist there. No container is started."""

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from commands.supervise import main as supervise
from commands.triton_installation import find_installation
from frontend.app import create_app
from frontend.settings import PREFIX, Settings
from tests.conftest import REPOSITORY
from tests.frontend.fakes import FakeSpeech

MODEL_SOURCE = (REPOSITORY / "model_repository" / "qwen3_tts" / "1" / "model.py").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
Instruction = tuple[str, str]


def read_stages() -> dict[str, list[Instruction]]:
    """The Dockerfile's instructions by the name of their stage."""
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    stages: dict[str, list[Instruction]] = {}
    for line in filter(None, map(str.strip, lines)):
        keyword, rest = line.split(maxsplit=1)
        if keyword == "FROM":
            stages[rest.partition(" AS ")[2]] = []
        list(stages.values())[-1].append((keyword, rest))
    return stages


STAGES = read_stages()


def arguments_of(stage: str, keyword: str) -> list[str]:
    return [rest for found, rest in STAGES[stage] if found == keyword]


def environment_of(service: str) -> dict[str, str]:
    """What a service's process sees: the image's environment with compose's over it."""
    image = [shlex.split(rest) for rest in arguments_of(SERVICES[service]["build"]["target"], "ENV")]
    built = dict(pair.split("=", 1) for pairs in image for pair in pairs)
    return {**built, **SERVICES[service].get("environment", {})}


def command_of(service: str) -> list[str]:
    own = SERVICES[service].get("command")
    return own or yaml.safe_load(arguments_of(SERVICES[service]["build"]["target"], "CMD")[0])


def triton_options() -> dict[str, str]:
    return dict(option.lstrip("-").partition("=")[::2] for option in command_of("triton")[1:])


def mounts_of(service: str) -> dict[str, str]:
    """Target and mode of each mount. The source may hold colons, as ${NAME:-default} does."""
    mounts = [mount.rsplit(":", 2) for mount in SERVICES[service].get("volumes", [])]
    return {target: mode for _, target, mode in mounts}


def test_every_service_is_built_from_a_stage_of_the_dockerfile() -> None:
    assert {service["build"]["target"] for service in SERVICES.values()} == set(STAGES)


def test_every_base_image_is_pinned_to_a_version() -> None:
    bases = [arguments_of(stage, "FROM")[0].split()[0] for stage in STAGES]
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]*", base) for base in bases), bases


def test_everything_copied_is_in_the_repository_and_reaches_the_build() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for stage in STAGES:
        sources = {source for rest in arguments_of(stage, "COPY") for source in rest.split()[:-1]}
        sources |= {name for rest in arguments_of(stage, "RUN") for name in re.findall(r"source=([\w./-]+)", rest)}
        assert sources <= allowed
        assert all((REPOSITORY / source).exists() for source in sources)


def test_the_packages_installed_are_extras_of_the_project() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [name for stage in STAGES for name in re.findall(r"\['(\w+)'\], sep", " ".join(arguments_of(stage, "RUN")))]
    assert named == ["engine", "frontend"]
    assert set(named) <= set(extras)


def test_no_image_runs_as_root() -> None:
    for stage in STAGES:
        [user] = arguments_of(stage, "USER")
        assert user != "root"


def test_the_frontend_knows_each_of_its_settings() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for service in SERVICES:
        assert {name for name in environment_of(service) if name.startswith(PREFIX)} <= known


def test_the_model_reads_each_of_its_settings() -> None:
    read = set(re.findall(r'os\.environ\.get\("(\w+)"', MODEL_SOURCE))
    given = {name for name in environment_of("triton") if name.startswith("QWEN3_TTS_")}
    assert given
    assert given <= read


def test_checkpoint_and_voices_are_mounted_read_only_where_the_model_looks() -> None:
    environment = environment_of("triton")
    assert mounts_of("triton") == {environment["QWEN3_TTS_MODEL"]: "ro", environment["QWEN3_TTS_VOICES"]: "ro"}


def test_the_server_serves_the_model_that_was_copied() -> None:
    options = triton_options()
    copied = {rest.split()[-1]: rest.split()[0] for rest in arguments_of("triton", "COPY")}
    model = REPOSITORY / copied[options["model-repository"]] / options["load-model"]
    assert (model / "config.pbtxt").is_file()
    assert options["load-model"] == Settings.model_fields["model"].default


def test_the_server_knows_each_option(tmp_path: Path) -> None:
    installation = find_installation(tmp_path)
    told = subprocess.run([installation.binary, "--help"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"^\s*--([\w-]+)", told.stdout + told.stderr, re.MULTILINE))
    assert set(triton_options()) <= known


def test_the_ports_of_triton_are_those_its_callers_use() -> None:
    options = triton_options()
    [exposed] = arguments_of("triton", "EXPOSE")
    listening = {options["http-port"], options["grpc-port"], options["metrics-port"]}
    assert set(exposed.split()) == listening
    assert set(SERVICES["triton"]["expose"]) <= listening
    assert [mapping.rsplit(":", 2) for mapping in SERVICES["triton"]["ports"]] == [
        ["127.0.0.1", options["metrics-port"], options["metrics-port"]]
    ]
    grpc = f"triton:{options['grpc-port']}"
    assert environment_of("frontend")["FRONTEND_TRITON_URL"] == grpc
    assert command_of("supervisor")[-1] == grpc
    check = urlsplit(SERVICES["triton"]["healthcheck"]["test"][-1])
    assert (str(check.port), check.path) == (options["http-port"], f"/v2/models/{options['load-model']}/ready")


def test_the_port_of_the_frontend_is_published_and_checked() -> None:
    port = environment_of("frontend")["FRONTEND_PORT"]
    assert arguments_of("frontend", "EXPOSE") == [port]
    assert SERVICES["frontend"]["ports"] == [f"{port}:{port}"]
    [url] = re.findall(r"http://[^']+", SERVICES["frontend"]["healthcheck"]["test"][-1])
    check = urlsplit(url)
    assert str(check.port) == port
    app = create_app(Settings(), FakeSpeech())
    assert check.path in {rule.rule for rule in app.url_map.iter_rules()}


@pytest.mark.parametrize("service", ["supervisor", "frontend"])
def test_a_started_module_exists(service: str) -> None:
    command = command_of(service)
    module = command[command.index("-m") + 1]
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__") is not None


def test_the_supervisor_knows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        supervise(["--help"])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    assert {option for option in command_of("supervisor") if option.startswith("--")} <= known


def test_the_modules_of_the_frontend_image_need_only_its_packages() -> None:
    """The supervisor runs from the frontend's image, which holds neither torch nor the packages of Triton."""
    program = (
        "import sys, commands.supervise, frontend.__main__\n"
        "print(*sorted({'torch', 'tts_engine', 'pytriton', 'huggingface_hub'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


def test_docker_waits_longer_than_a_drain_takes() -> None:
    grace = {name: int(service["stop_grace_period"].removesuffix("s")) for name, service in SERVICES.items()}
    assert grace["frontend"] > Settings.model_fields["drain_s"].default
    assert grace["triton"] > int(triton_options()["exit-timeout-secs"])


def test_the_gpu_is_reserved_and_shared_memory_is_enlarged() -> None:
    [device] = SERVICES["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert SERVICES["triton"]["shm_size"] == "1gb"
