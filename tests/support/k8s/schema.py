"""Manifests held against Kubernetes' published schemas, strictly: an unknown field or kind is an error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

import kubernetes_validate

from tests.support.k8s.manifests import Object, label

VERSIONS = ("1.31", "1.37")  # the oldest that we name, and the newest that the library knows
CUSTOM = {  # custom resources, by the component that may use them; its README says whose they are
    "autoscaling/queue-depth": frozenset({"keda.sh/v1alpha1/ScaledObject", "keda.sh/v1alpha1/TriggerAuthentication"}),
    "monitoring": frozenset({"monitoring.coreos.com/v1/PodMonitor"}),
}


def schema(objects: Sequence[Object], version: str, custom: frozenset[str] = frozenset()) -> list[str]:
    """What that Kubernetes version's schema objects to; `custom`: kinds ("group/version/Kind") of others that are let through."""
    problems = []
    for each in objects:
        if f"{each.get('apiVersion')}/{each.get('kind')}" in custom:
            continue
        if problem := _objection(json.dumps(each), version):
            problems.append(problem)
    return problems


@cache  # combinations share most of their objects
def _objection(text: str, version: str) -> str:
    each = json.loads(text)
    try:
        used = kubernetes_validate.validate(each, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = ".".join(str(part) for part in error.path)
        return f"{label(each)}: {path}: {error.message[:200]}"
    except kubernetes_validate.SchemaNotFoundError:
        return f"{each.get('apiVersion')}/{each.get('kind')} is no kind of Kubernetes {version}"
    assert used == version, f"validated against {used}, not {version}"
    return ""
