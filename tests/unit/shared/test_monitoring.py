"""Dashboards and alerts name only metrics that docs/operations.md defines; every alert has its section there.

That the defined metrics are those that services export is held by tests/e2e/test_story.py, which scrapes them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from tests.support.metrics import documented, exported_samples

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "operations.md").read_text()
MONITORING = ROOT / "infra" / "monitoring"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
ALERTS = [rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
FOREIGN = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}  # of Prometheus itself, and of its client library


def _selected(expression: str) -> set[str]:
    """The samples that a PromQL expression reads. Raises for one that Prometheus would refuse."""
    names: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql.VectorSelector):
            names.add(node.name)
        return True

    promql.walk(promql.parse(expression), visit)
    return names


def _expressions(dashboard: Path) -> list[str]:
    return [target["expr"] for panel in json.loads(dashboard.read_text())["panels"] for target in panel["targets"]]


def test_the_walk_sees_every_metric_of_an_expression() -> None:
    found = _selected('sum(rate(a_total{x="1"}[5m])) / sum by (x) (b) > 0 and absent(c{y!=""})')
    assert found == {"a_total", "b", "c"}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_reads_only_what_is_defined(dashboard: Path) -> None:
    expressions = _expressions(dashboard)
    assert expressions
    read = {name for expression in expressions for name in _selected(expression)}
    assert read - FOREIGN <= exported_samples(documented(PAGE))


def test_every_metric_stands_on_a_dashboard() -> None:
    read = {name for dashboard in DASHBOARDS for expression in _expressions(dashboard) for name in _selected(expression)}
    missing = [name for name in documented(PAGE) if not exported_samples([name]) & read]
    assert missing == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_reads_what_is_defined_and_has_a_runbook(rule: dict[str, Any]) -> None:
    assert _selected(rule["expr"]) - FOREIGN <= exported_samples(documented(PAGE))
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    section = re.search(rf"^### {rule['alert']}\n(.*?)(?=^###? |\Z)", PAGE, re.M | re.S)
    assert section
    assert "*Why*:" in section[1]
    assert "*Do*:" in section[1]


def test_every_runbook_has_its_alert() -> None:
    runbooks = re.findall(r"^### (\w+)$", PAGE.split("## Alerts")[1].split("\n## ")[0], re.M)
    assert runbooks == [rule["alert"] for rule in ALERTS]


def test_the_component_mounts_every_file() -> None:
    generators = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())["configMapGenerator"]
    mounted = {name for generator in generators for name in generator["files"]}
    assert mounted == {"prometheus.yaml", "alerts.yaml", *(f"dashboards/{path.name}" for path in DASHBOARDS)}
    assert yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["rule_files"] == ["alerts.yaml"]
