"""compose.yaml and .env.example against the code, read by Compose itself. No container is started."""

import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from frontend.settings import PREFIX, Settings
from frontend.trace_export import WANTED_BY
from tests.conftest import REPOSITORY
from tests.deployment import files
from tests.deployment.test_dockerfile import MODEL_SOURCE, STAGES, triton_options

PROFILES = {
    "gpu": {"fetch", "triton", "supervisor", "frontend"},
    "cpu": {"demo", "triton-cpu", "supervisor", "frontend"},
    "scale": {"fetch", "triton-1", "triton-2", "supervisor-1", "supervisor-2", "frontend-scaled", "haproxy"},
    "observability": {"prometheus", "grafana"},
    "bench": {"perf-analyzer", "serving"},
}
SERVICES = files.services()
ONE_SHOT = {"fetch", "demo", "perf-analyzer", "serving"}
TRITONS = {"triton", "triton-cpu", "triton-1", "triton-2"}
FRONTENDS = {"frontend", "frontend-scaled"}
EXAMPLE = files.ENVIRONMENT_EXAMPLE.read_text()
COMPOSE_TEXT = (REPOSITORY / "compose.yaml").read_text()
FOREIGN = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PIP_BREAK_SYSTEM_PACKAGES"}


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_accepts_every_profile_and_starts_what_it_should(profile: str) -> None:
    assert set(files.services(profile)) == PROFILES[profile]


def test_without_a_word_one_gpu_is_served() -> None:
    assert set(files.services(None)) == PROFILES["gpu"]


@pytest.mark.parametrize("profile", ["gpu", "cpu", "scale"])
def test_no_two_services_of_a_profile_publish_the_same_port(profile: str) -> None:
    together = files.services(f"{profile},observability").values()
    published = [port["published"] for service in together for port in service.get("ports", [])]
    assert len(published) == len(set(published))
    assert "8080" in published


def test_everything_is_published_to_this_machine_alone_unless_someone_says_otherwise() -> None:
    assert {port["host_ip"] for service in SERVICES.values() for port in service.get("ports", [])} == {"127.0.0.1"}
    world = files.compose("gpu", PUBLISH="8080")["services"]["frontend"]["ports"]
    assert [port.get("host_ip") for port in world] == [None]


def test_every_service_is_built_from_a_stage_or_pinned_to_a_version() -> None:
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} == set(STAGES)
    foreign = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert all(re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image) for image in foreign), foreign
    triton = files.base_of("triton")
    assert SERVICES["perf-analyzer"]["image"] == f"{triton}-sdk", "made for the server that it measures"


def test_every_value_that_can_be_set_is_explained_with_its_default_and_nothing_else_is() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE_TEXT))
    explained = dict(re.findall(r"^#?([A-Z][A-Z_0-9]*)=(.*)$", EXAMPLE, re.MULTILINE))
    assert set(explained) - {"COMPOSE_PROFILES"} == set(used)
    commented = dict(re.findall(r"^#([A-Z][A-Z_0-9]*)=(.*)$", EXAMPLE, re.MULTILINE))
    assert commented == {name: used[name] for name in commented}


def test_every_mounted_path_is_in_the_repository() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    sources = {Path(mount["source"]) for mount in mounts if mount["type"] == "bind"}
    assert sources
    assert [str(source) for source in sources if not source.exists()] == []
    assert all(mount.get("read_only") for mount in mounts if mount["type"] == "bind")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_setting_is_read_by_who_gets_it(name: str) -> None:
    given = set(SERVICES[name].get("environment") or {}) - FOREIGN
    frontend = {PREFIX + field.upper() for field in Settings.model_fields}
    frontend |= set(WANTED_BY)
    model = set(re.findall(r'os\.environ\.get\("(\w+)"', MODEL_SOURCE))
    fetching = (REPOSITORY / "scripts" / "commands").glob("fetch*.py")
    fetch = {word for file in fetching for word in re.findall(r"\b(?:CHECKPOINT|HF)_[A-Z]+\b", file.read_text())}
    known = {**dict.fromkeys(TRITONS, model), **dict.fromkeys(FRONTENDS, frontend), "fetch": fetch}
    foreign = {setting for setting in given if setting.startswith("GF_")} if name == "grafana" else set()
    assert given <= known.get(name, set()) | foreign


@pytest.mark.parametrize("profile", ["gpu", "scale"])
def test_any_setting_of_the_frontend_can_be_given_and_no_secret_of_others_reaches_it(
    profile: str, tmp_path: Path
) -> None:
    (tmp_path / "frontend.env").write_text("FRONTEND_MAX_SOCKETS_PER_KEY=100\nFRONTEND_VOICE_UPLOAD=true\n")
    made = files.compose(profile, tmp_path, VOICES_MODE="rw", HF_TOKEN="secret", GRAFANA_PASSWORD="secret")["services"]
    [frontend] = [service for name, service in made.items() if name in FRONTENDS]
    assert frontend["environment"]["FRONTEND_MAX_SOCKETS_PER_KEY"] == "100"
    assert frontend["environment"]["FRONTEND_VOICE_UPLOAD"] == "true"
    assert "secret" not in frontend["environment"].values()
    assert not frontend["volumes"][0].get("read_only")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_started_module_exists_and_knows_its_options(name: str) -> None:
    service = SERVICES[name]
    command = files.service_command(service) if "build" in service or "command" in service else []
    module = files.module_of(command)
    if module is None:
        return
    assert importlib.util.find_spec(module) is not None
    options = files.options_of(command)
    assert not options or options <= _options_known_to(module)


@cache
def _options_known_to(module: str) -> set[str]:
    told = subprocess.run([sys.executable, "-P", "-m", module, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"--[\w-]+", told.stdout))


def test_the_demo_is_made_where_the_model_looks_for_it() -> None:
    [_, _, script] = SERVICES["demo"]["command"]
    assert "python3 -m commands.demo_checkpoint /checkpoints/demo" in script
    assert importlib.util.find_spec("commands.demo_checkpoint") is not None
    assert SERVICES["triton-cpu"]["environment"]["QWEN3_TTS_MODEL"] == "/checkpoints/demo"


def test_the_checkpoint_is_fetched_to_where_the_model_looks_for_it() -> None:
    fetched = files.compose("gpu", CHECKPOINT_REPO="owner/name")["services"]
    assert fetched["fetch"]["environment"]["CHECKPOINT_REPO"] == "owner/name"
    folder = fetched["fetch"]["environment"]["CHECKPOINT_DIR"]
    assert fetched["triton"]["environment"]["QWEN3_TTS_MODEL"] == folder
    assert folder.startswith(fetched["fetch"]["volumes"][0]["target"] + "/"), "a mount point cannot appear at once"


def test_every_address_is_a_service_or_an_alias_that_listens_there() -> None:
    for profile in ("gpu", "cpu", "scale"):
        services = files.services(profile)
        listening = {
            f"{name}:{port}"
            for service, facts in services.items()
            for name in [service, *((facts["networks"]["default"] or {}).get("aliases", []))]
            for port in facts.get("expose", [])
        }
        called = {facts["environment"]["FRONTEND_TRITON_URL"] for name, facts in services.items() if name in FRONTENDS}
        supervised = [facts["command"][-1] for name, facts in services.items() if name.startswith("supervisor")]
        assert called | set(supervised) <= listening
        [frontend] = [facts["environment"] for name, facts in services.items() if name in FRONTENDS]
        assert frontend.get("FRONTEND_TRITON_BALANCED") == ("true" if profile == "scale" else None)
        tritons = [name for name in services if name in TRITONS]
        assert len(set(supervised)) == len(tritons)


def test_ports_are_those_of_the_images() -> None:
    options = triton_options()
    ports = {options["http-port"], options["grpc-port"], options["metrics-port"]}
    assert all(set(SERVICES[name]["expose"]) == ports for name in TRITONS)
    for name in FRONTENDS:
        environment = files.service_environment(SERVICES[name])
        assert set(SERVICES[name]["expose"]) == {environment["FRONTEND_PORT"], environment["FRONTEND_METRICS_PORT"]}


def test_each_card_has_one_triton() -> None:
    def cards(profile: str) -> list[str]:
        reserved = [
            service["deploy"]["resources"] for service in files.services(profile).values() if _has_card(service)
        ]
        devices = [device for resources in reserved for device in resources["reservations"]["devices"]]
        assert all((device["driver"], device["capabilities"]) == ("nvidia", ["gpu"]) for device in devices)
        return [card for device in devices for card in device["device_ids"]]

    assert (cards("gpu"), cards("cpu"), cards("scale")) == (["0"], [], ["0", "1"])


def _has_card(service: files.Service) -> bool:
    return "reservations" in service.get("deploy", {}).get("resources", {})


def test_docker_waits_longer_than_a_drain_takes() -> None:
    grace = {name: files.seconds(service.get("stop_grace_period", "10s")) for name, service in SERVICES.items()}
    assert all(grace[name] > Settings.model_fields["drain_s"].default for name in FRONTENDS)
    assert all(grace[name] > int(triton_options()["exit-timeout-secs"]) for name in TRITONS)
    [hard_stop] = re.findall(r"hard-stop-after (\d+)s", (REPOSITORY / "deploy/haproxy/haproxy.cfg").read_text())
    assert grace["haproxy"] > int(hard_stop) > Settings.model_fields["drain_s"].default


def test_what_serves_comes_back_what_ends_does_not_and_no_log_fills_the_disk() -> None:
    for name, service in SERVICES.items():
        assert (service.get("restart", "no") == "unless-stopped") == (name not in ONE_SHOT), name
        assert service["logging"]["options"]["max-size"] == "20m", name


def test_triton_has_room_for_tensors_and_reads_what_it_is_given() -> None:
    for name in TRITONS:
        assert int(SERVICES[name]["shm_size"]) == 2**30
        assert all(mount["read_only"] for mount in SERVICES[name]["volumes"])
