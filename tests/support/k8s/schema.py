"""Manifests held against Kubernetes' published schemas, strictly: an unknown field or kind is an error."""

from __future__ import annotations

from collections.abc import Sequence

import kubernetes_validate

from tests.support.k8s.manifests import Object, label

VERSIONS = ("1.31", "1.37")  # the oldest that we name, and the newest that the library knows
CUSTOM = {  # kinds that only the components which say so may use; README.md names where each comes from
    "components/autoscaling/queue-depth": {"keda.sh/v1alpha1/ScaledObject", "keda.sh/v1alpha1/TriggerAuthentication"},
    "components/monitoring": {"monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule"},
}


def schema(objects: Sequence[Object], version: str, custom: frozenset[str] = frozenset()) -> list[str]:
    """What that Kubernetes version's schema objects to; `custom`: kinds ("group/version/Kind") of others that are let through."""
    problems = []
    for each in objects:
        if f"{each.get('apiVersion')}/{each.get('kind')}" in custom:
            continue
        try:
            used = kubernetes_validate.validate(each, version, strict=True)
            assert used == version, f"validated against {used}, not {version}"
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            problems.append(f"{label(each)}: {path}: {error.message[:200]}")
        except kubernetes_validate.SchemaNotFoundError:
            problems.append(f"{each.get('apiVersion')}/{each.get('kind')} is no kind of Kubernetes {version}")
    return problems
