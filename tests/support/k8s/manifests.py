"""Builds what is under infra/k8s with `kubectl kustomize`, and finds things in it."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

ROOT = Path(__file__).parents[3]
K8S = ROOT / "infra/k8s"
KUBECTL = shutil.which("kubectl")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


@cache
def _built(folder: Path) -> list[Object]:
    result = subprocess.run([str(KUBECTL), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{folder}: {result.stderr}"
    return [each for each in yaml.load_all(result.stdout, Loader=yaml.CSafeLoader) if each]


def build(folder: Path) -> list[Object]:
    """The objects of a kustomization; fresh ones with every call, so that a test may change them."""
    return deepcopy(_built(folder))


def combine(folder: Path, below: str, components: Sequence[str]) -> Path:
    """A kustomization in `folder` of `below` (under infra/k8s) and components by name, as a user would write it."""
    if not (copy := folder / "infra").exists():
        shutil.copytree(K8S.parent, copy)
    path = folder / "-".join(["over", *below.split("/"), *components]).replace("/", "-")
    path.mkdir(exist_ok=True)
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": {"overlays/dev": "langptune-dev"}.get(below, "langptune"),
        "resources": [f"../infra/k8s/{below}"],
        "components": [f"../infra/k8s/components/{name}" for name in components],
    }
    (path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return path


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name; generated names without their hash."""
    found = [each for each in objects if each["kind"] == kind and _plain(each) == name]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
    return found[0]


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    """All objects of these kinds."""
    return [each for each in objects if each["kind"] in kinds]


def label(each: Object) -> str:
    """How a problem names an object."""
    return f"{each['kind']}/{each['metadata']['name']}"


def pod_template(workload: Object) -> Object:
    """The template of a workload's pods."""
    spec = workload["spec"]["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else workload["spec"]
    template: Object = spec["template"]
    return template


def containers(workload: Object) -> Iterator[Object]:
    """Init containers first."""
    spec = pod_template(workload)["spec"]
    yield from spec.get("initContainers", ())
    yield from spec["containers"]


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector takes an object with these labels; an empty one takes all."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        key, operator, values = expression["key"], expression["operator"], expression.get("values", [])
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not holds[operator]:
            return False
    return True


def selected(objects: Sequence[Object], selector: Mapping[str, Any] | None) -> list[Object]:
    """The workloads whose pods a LabelSelector takes."""
    return [each for each in of_kind(objects, *WORKLOADS) if matches(selector, pod_template(each)["metadata"].get("labels", {}))]


def environment(objects: Sequence[Object], container: Object) -> dict[str, str]:
    """What the container's environment will be, as the kubelet makes it; an operator's secret is "<its name>"."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            found = [each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"] == source["configMapRef"]["name"]]
            for each in found:
                variables |= each.get("data", {})
    for one in container.get("env", ()):
        value = one.get("value", _from_secret(objects, one) or f"<{one['name']}>")
        for known, text in variables.items():
            value = value.replace(f"$({known})", text)
        variables[one["name"]] = value
    return variables


def _from_secret(objects: Sequence[Object], variable: Object) -> str:
    """The value in a Secret of these manifests; "" where it is not among them."""
    reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
    found = [each for each in of_kind(objects, "Secret") if each["metadata"]["name"] == reference.get("name")]
    return base64.b64decode(found[0]["data"].get(reference["key"], "")).decode() if found else ""


def _plain(each: Object) -> str:
    name: str = each["metadata"]["name"]
    stem, _, tail = name.rpartition("-")
    generated = each["kind"] in ("ConfigMap", "Secret") and len(tail) == 10 and any(letter.isdigit() for letter in tail)
    return stem if generated else name
