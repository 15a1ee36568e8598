"""deploy/kubernetes against Kubernetes' own schemas and against the code. No cluster is asked."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from frontend.app import create_app
from frontend.settings import PREFIX, Settings
from tests.conftest import REPOSITORY
from tests.deployment import files
from tests.deployment.test_dockerfile import MODEL_SOURCE, triton_options
from tests.frontend.fakes import FakeSpeech

OBJECTS = files.kubernetes()
PODS = files.pods()
HAPROXY = (REPOSITORY / "deploy" / "haproxy" / "haproxy.cfg").read_text()
NAMES = [f"{made['kind']}/{made['metadata']['name']}" for made in OBJECTS]
# The oldest that is still looked after, and a recent one.
VERSIONS = ("1.31", "1.34")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("made", OBJECTS, ids=NAMES)
def test_every_object_is_what_kubernetes_takes(made: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(made, version, strict=True)


def test_every_file_is_part_of_the_kustomization_which_reads_only_below_itself() -> None:
    base = files.KUBERNETES / "base"
    kustomization = yaml.safe_load((base / "kustomization.yaml").read_text())
    own = {name for name in kustomization["resources"] if name.endswith(".yaml")}
    assert own == {file.name for file in base.glob("*.yaml")} - {"kustomization.yaml"}
    [haproxy] = [base / name for name in kustomization["resources"] if name not in own]
    [generator] = yaml.safe_load((haproxy / "kustomization.yaml").read_text())["configMapGenerator"]
    assert [(haproxy / name).resolve() for name in generator["files"]] == [REPOSITORY / "deploy/haproxy/haproxy.cfg"]
    assert _config_maps() == {generator["name"], *(made["name"] for made in kustomization["configMapGenerator"])}


def _config_maps() -> set[str]:
    volumes = [
        volume["configMap"]["name"] for pod in PODS.values() for volume in pod["volumes"] if "configMap" in volume
    ]
    sources = [made for pod in PODS.values() for box in files.containers_of(pod) for made in box.get("envFrom", [])]
    return {*volumes, *(source["configMapRef"]["name"] for source in sources)}


def test_every_image_is_one_of_ours_or_pinned() -> None:
    ours = {
        made["name"] for made in yaml.safe_load((files.KUBERNETES / "base/kustomization.yaml").read_text())["images"]
    }
    built = {service["image"] for service in files.services().values() if "build" in service}
    used = {container["image"] for pod in PODS.values() for container in files.containers_of(pod)}
    assert ours <= built
    assert used - ours == {files.services()["haproxy"]["image"]}


@pytest.mark.parametrize("name", PODS)
def test_nothing_runs_as_root_or_can_become_it(name: str) -> None:
    assert PODS[name]["securityContext"]["runAsNonRoot"]
    assert PODS[name]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert PODS[name]["automountServiceAccountToken"] is False
    assert PODS[name]["enableServiceLinks"] is False, "what other services are called is nobody's setting"
    for container in files.containers_of(PODS[name]):
        context = container["securityContext"]
        assert context["runAsUser"] > 0
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", PODS)
def test_every_volume_that_is_mounted_is_there(name: str) -> None:
    pod = PODS[name]
    mounted = {mount["name"] for box in files.containers_of(pod) for mount in box.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert claims <= {made["metadata"]["name"] for made in OBJECTS if made["kind"] == "PersistentVolumeClaim"}


def test_every_module_that_is_started_exists() -> None:
    commands = [box["command"] for pod in PODS.values() for box in files.containers_of(pod) if "command" in box]
    modules = {files.module_of(command) for command in commands}
    assert modules == {"commands.fetch_weights", "commands.supervise"}
    assert all(importlib.util.find_spec(str(module)) is not None for module in modules)


def test_each_setting_is_read_by_who_gets_it() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= set(re.findall(r'os\.environ\.get\("(\w+)"', MODEL_SOURCE))
    known |= set(re.findall(r"presetenv (\w+)", HAPROXY))
    known |= {"CHECKPOINT_REPO", "CHECKPOINT_REVISION", "CHECKPOINT_DIR", "HF_TOKEN"}
    given = {entry["name"] for pod in PODS.values() for box in files.containers_of(pod) for entry in box.get("env", [])}
    assert given
    assert given <= known


def test_the_checkpoint_is_fetched_to_where_the_model_looks_for_it() -> None:
    [checkpoint] = yaml.safe_load((files.KUBERNETES / "base/kustomization.yaml").read_text())["configMapGenerator"]
    fetched = dict(literal.split("=", 1) for literal in checkpoint["literals"])
    triton = PODS["triton"]["containers"][0]
    assert {"name": "QWEN3_TTS_MODEL", "value": fetched["CHECKPOINT_DIR"]} in triton["env"]
    [fetch] = PODS["triton"]["initContainers"]
    folder = Path(fetched["CHECKPOINT_DIR"]).parent
    assert str(folder) in {mount["mountPath"] for mount in fetch["volumeMounts"]}


def test_ports_of_containers_services_and_policies_are_one() -> None:
    options, image = triton_options(), files.image_environment("frontend")
    statistics = int(re.findall(r"presetenv STATS_BIND :(\d+)", HAPROXY)[0])
    grpc = int(re.findall(r"presetenv GRPC_BIND :(\d+)", HAPROXY)[0])
    listening = {
        "triton": {int(options[f"{kind}-port"]) for kind in ("http", "grpc", "metrics")},
        "frontend": {int(image["FRONTEND_PORT"]), int(image["FRONTEND_METRICS_PORT"])},
        "haproxy": {int(image["FRONTEND_PORT"]), grpc, statistics},
    }
    for name, pod in PODS.items():
        service = files.kubernetes_object("Service", name)["spec"]
        policy = files.kubernetes_object("NetworkPolicy", name)["spec"]
        assert {port["containerPort"] for box in pod["containers"] for port in box.get("ports", [])} == listening[name]
        assert {port["port"] for port in service["ports"]} == listening[name]
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == listening[name]


def test_triton_is_well_when_its_model_answers() -> None:
    triton, supervisor = PODS["triton"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert triton[probe]["exec"]["command"] == files.health_command("triton")
    assert supervisor["command"][-1] == f"localhost:{triton_options()['grpc-port']}"


def test_probes_of_the_frontend_are_its_routes() -> None:
    [frontend] = PODS["frontend"]["containers"]
    routes = {rule.rule for rule in create_app(Settings(), FakeSpeech()).url_map.iter_rules()}
    assert frontend["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert frontend["livenessProbe"]["httpGet"]["path"] == "/healthz", "no I/O: a lost Triton is no reason to restart"
    assert {"/readyz", "/healthz"} <= routes


def test_frontends_and_haproxy_find_each_other_by_the_names_of_services() -> None:
    [frontend], [haproxy] = PODS["frontend"]["containers"], PODS["haproxy"]["containers"]
    grpc = re.findall(r"presetenv GRPC_BIND (:\d+)", HAPROXY)[0]
    assert {"name": "FRONTEND_TRITON_URL", "value": f"haproxy{grpc}"} in frontend["env"]
    assert {"name": "FRONTEND_TRITON_BALANCED", "value": "true"} in frontend["env"]
    namespace = yaml.safe_load((files.KUBERNETES / "base/kustomization.yaml").read_text())["namespace"]
    names = {entry["name"]: entry["value"] for entry in haproxy["env"]}
    for server in ("triton", "frontend"):
        assert names[f"{server.upper()}_NAME"] == f"{server}.{namespace}.svc.cluster.local"
        assert files.kubernetes_object("Service", server)["spec"]["clusterIP"] == "None", "HAProxy needs every address"


def test_a_pod_is_given_longer_to_end_than_it_takes() -> None:
    grace = {name: pod["terminationGracePeriodSeconds"] for name, pod in PODS.items()}
    pause = 5
    [drain] = [
        entry["value"] for entry in PODS["frontend"]["containers"][0]["env"] if entry["name"].endswith("DRAIN_S")
    ]
    assert grace["frontend"] > pause + float(drain)
    assert grace["triton"] > pause + int(triton_options()["exit-timeout-secs"])
    assert grace["haproxy"] > int(re.findall(r"hard-stop-after (\d+)s", HAPROXY)[0]) >= float(drain)


def test_each_triton_has_a_card_to_itself() -> None:
    triton, supervisor = PODS["triton"]["containers"]
    assert triton["resources"]["requests"]["nvidia.com/gpu"] == triton["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in supervisor["resources"]["requests"]


def test_the_autoscaler_follows_gauges_that_the_model_shows_and_the_adapter_passes_on() -> None:
    spec = files.kubernetes_object("HorizontalPodAutoscaler", "triton")["spec"]
    followed = {metric["pods"]["metric"]["name"] for metric in spec["metrics"]}
    sources = [path.read_text() for path in (REPOSITORY / "model_repository").rglob("*.py")]
    assert all(any(f'"{name}"' in source for source in sources) for name in followed)
    [rule] = yaml.safe_load((files.KUBERNETES / "monitoring" / "adapter.yaml").read_text())["rules"]["custom"]
    [pattern] = re.findall(r'__name__=~"([^"]+)"', rule["seriesQuery"])
    assert all(re.fullmatch(pattern, name) for name in followed)
    servers = re.findall(r"^    server triton\d+ ", HAPROXY, re.MULTILINE)
    assert spec["maxReplicas"] <= len(servers), "HAProxy would not see the others"


def test_what_is_scaled_may_be_disturbed_one_at_a_time() -> None:
    for name in PODS:
        budget = files.kubernetes_object("PodDisruptionBudget", name)["spec"]
        labels = files.kubernetes_object("Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert budget["maxUnavailable"] == 1
        assert (
            budget["selector"]["matchLabels"] == labels == files.kubernetes_object("Service", name)["spec"]["selector"]
        )
