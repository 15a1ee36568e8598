"""The Dockerfile against the code: what it names must exist there. No image is built."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from commands.tracing import FORWARDED
from commands.triton_installation import find_installation
from frontend.app import create_app
from frontend.settings import PREFIX, Settings
from tests.conftest import REPOSITORY
from tests.deployment import files
from tests.frontend.fakes import FakeSpeech

STAGES = ("triton", "frontend", "bench")
EXTRAS = {"triton": ["engine"], "frontend": ["frontend", "fetch"], "bench": ["client", "bench"]}
MODEL_SOURCE = (REPOSITORY / "model_repository" / "qwen3_tts" / "1" / "model.py").read_text()


def triton_options() -> dict[str, str]:
    return dict(option.lstrip("-").partition("=")[::2] for option in files.image_command("triton")[1:])


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.prefix) / "bin" / "hadolint"
    told = subprocess.run([linter, "--no-color", files.DOCKERFILE], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def test_every_base_image_is_pinned_to_a_version() -> None:
    assert tuple(files.stages()) == STAGES
    bases = {files.base_of(stage) for stage in STAGES} - set(STAGES)
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]*", base) for base in bases), bases


def test_everything_copied_is_in_the_repository_and_reaches_the_build() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = set()
    for stage in STAGES:
        copied |= {source for rest in files.arguments_of(stage, "COPY") for source in rest.split()[:-1]}
        runs = files.arguments_of(stage, "RUN")
        copied |= {name for rest in runs for name in re.findall(r"source=([\w./-]+)", rest)}
    assert copied == allowed
    assert all((REPOSITORY / source).exists() for source in copied)


@pytest.mark.parametrize("stage", STAGES)
def test_the_packages_installed_are_extras_of_the_project(stage: str) -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"\*e\['(\w+)'\]", " ".join(files.arguments_of(stage, "RUN")))
    assert named == EXTRAS[stage]
    assert set(named) <= set(extras)


@pytest.mark.parametrize("stage", STAGES)
def test_no_image_runs_as_root_and_kubernetes_can_tell(stage: str) -> None:
    assert int(files.inherited(stage, "USER")[-1]) > 0


def test_code_is_copied_after_packages_are_installed() -> None:
    for stage in STAGES:
        order = [keyword for keyword, _ in files.stages()[stage] if keyword in ("RUN", "COPY")]
        assert order == sorted(order, reverse=True), f"{stage}: a changed line of code would install everything again"


def test_each_setting_of_an_image_is_read() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    frontend = {name for name in files.image_environment("frontend") if name.startswith(PREFIX)}
    assert frontend
    assert frontend <= known
    triton = {name for name in files.image_environment("triton") if name.startswith("QWEN3_TTS_")}
    assert triton
    assert triton <= set(re.findall(r'os\.environ\.get\("(\w+)"', MODEL_SOURCE))


def test_the_server_serves_the_model_that_was_copied_with_its_voices() -> None:
    options = triton_options()
    copied = {rest.split()[-1]: rest.split()[0] for rest in files.arguments_of("triton", "COPY")}
    model = REPOSITORY / copied[options["model-repository"]] / options["load-model"]
    assert (model / "config.pbtxt").is_file()
    assert options["load-model"] == Settings.model_fields["model"].default
    assert files.image_environment("triton")["QWEN3_TTS_VOICES"] in copied


def test_the_server_knows_each_option(tmp_path: Path) -> None:
    installation = find_installation(tmp_path)
    told = subprocess.run([installation.binary, "--help"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"^\s*--([\w-]+)", told.stdout + told.stderr, re.MULTILINE))
    assert set(triton_options()) <= known


def test_the_engine_hears_of_traces_as_under_scripts_serve() -> None:
    assert FORWARDED in files.image_command("triton")


def test_ports_that_are_exposed_are_those_listened_on() -> None:
    options = triton_options()
    [exposed] = files.arguments_of("triton", "EXPOSE")
    assert exposed.split() == [options["http-port"], options["grpc-port"], options["metrics-port"]]
    environment = files.image_environment("frontend")
    assert files.arguments_of("frontend", "EXPOSE") == [
        f"{environment['FRONTEND_PORT']} {environment['FRONTEND_METRICS_PORT']}"
    ]


def test_health_of_triton_is_an_answer_of_the_model() -> None:
    """tests/stack/test_scale.py sends the same to a real one, by HAProxy."""
    command, options = files.health_command("triton"), triton_options()
    assert command[command.index("--data") + 1] == '{"describe":true}'
    url = urlsplit(command[-1])
    assert (str(url.port), url.path) == (options["http-port"], f"/v2/models/{options['load-model']}/generate")


def test_health_of_the_frontend_is_its_readiness() -> None:
    [url] = re.findall(r"http://[^']+", files.health_command("frontend")[-1])
    check = urlsplit(url)
    assert str(check.port) == files.image_environment("frontend")["FRONTEND_PORT"]
    app = create_app(Settings(), FakeSpeech())
    assert check.path == "/readyz"
    assert check.path in {rule.rule for rule in app.url_map.iter_rules()}


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        ("commands.supervise, commands.fetch_weights, frontend.__main__", ["torch", "tts_engine", "pytriton"]),
        ("benchmarks.serving", ["torch", "tts_engine", "pytriton"]),
    ],
)
def test_what_runs_from_an_image_needs_only_its_packages(modules: str, missing: list[str]) -> None:
    program = f"import sys, {modules}\nprint(*sorted(set({missing!r}) & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""
