"""The trainer's Role is what its code asks for, to the verb; tests/integration/launchers holds that all of it is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from services.trainer.cluster.permissions import TRAINING
from tests.support.k8s.manifests import K8S, KUBECTL, build, named

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: nothing else builds kustomizations")


def _rights(rules: Iterable[Any]) -> set[tuple[str, str, str, str]]:
    """(group, resource, verb, name), the name "" for any."""
    return {
        (group, resource, verb, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def test_the_role_is_what_the_launcher_asks_for() -> None:
    assert _rights(named(build(K8S), "Role", "trainer")["rules"]) == _rights(TRAINING)
