"""deploy/prometheus and deploy/grafana against the code and the documents: names, cases, places. Nothing is started."""

import itertools
import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from frontend.metrics import Metrics
from tests.conftest import REPOSITORY
from tts_engine.metrics import METRICS

PROMETHEUS, GRAFANA = REPOSITORY / "deploy" / "prometheus", REPOSITORY / "deploy" / "grafana"
DOCUMENT = (REPOSITORY / "docs" / "observability.md").read_text()
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "qwen3-tts.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def families() -> set[str]:
    """Every metric of ours, as it is called on the wire but for the parts of a histogram."""
    collected = Metrics().registry.collect()
    own = {f"{family.name}_total" if family.type == "counter" else family.name for family in collected}
    return own | {declared.name for declared in METRICS}


def named(text: str) -> set[str]:
    """The metrics of ours that a text names."""
    names = set(re.findall(r"(?<![:\w])(?:tts|frontend)_[a-z_]+\b(?!:)", text))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}


def promtool(*arguments: str) -> str:
    """What promtool says, all being well."""
    assert shutil.which("promtool"), "promtool is not installed (on Debian: apt-get install prometheus)"
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_documents_list_every_metric_and_no_other() -> None:
    tables = DOCUMENT[DOCUMENT.index("### The model's") : DOCUMENT.index("## Alerts")]
    listed = re.findall(r"`((?:tts|frontend)_\w+)`", "".join(re.findall(r"^\| `.*?\|", tables, re.MULTILINE)))
    assert sorted(listed) == sorted(families())


def test_the_documents_list_every_alert_and_no_other() -> None:
    table = DOCUMENT[DOCUMENT.index("## Alerts") : DOCUMENT.index("## Prometheus and Grafana")]
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == sorted(ALERTS)


def test_rules_and_dashboard_ask_for_metrics_that_exist() -> None:
    records = {rule["record"] for rule in RULES if "record" in rule}
    for expression in [*EXPRESSIONS, *(rule["expr"] for rule in RULES)]:
        assert named(expression) <= families(), expression
        assert set(re.findall(r"\bjob:\S+?:\w+", expression)) <= records, expression


def test_prometheus_accepts_config_rules_and_their_cases() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("test", "rules", "rules.test.yml")


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_not(alert: str) -> None:
    cases = [case for test in CASES for case in test["alert_rule_test"] if case["alertname"] == alert]
    assert any(case.get("exp_alerts") for case in cases)
    assert any(not case.get("exp_alerts") for case in cases)


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_each_alert_says_what_it_is_and_how_bad(alert: str) -> None:
    assert ALERTS[alert]["labels"]["severity"] in {"critical", "warning"}
    assert ALERTS[alert]["annotations"]["summary"]


def test_panels_have_a_place_an_id_and_a_source_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    [source] = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    for panel in panels:
        users = [*([] if panel["type"] == "row" else [panel]), *panel.get("targets", ())]
        used = [user["datasource"] for user in users]
        assert all(one == {"type": source["type"], "uid": source["uid"]} for one in used)
        assert panel["type"] == "row" or panel["targets"]
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_grafana_and_prometheus_agree_on_how_often_is_scraped() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
