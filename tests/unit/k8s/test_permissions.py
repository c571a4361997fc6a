"""The trainer's Role is what its code asks for, to the verb; tests/integration/launchers holds that all of it is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from services.trainer.cluster.permissions import SLOTS, TRAINING
from tests.support.k8s.manifests import K8S, KUBECTL, build, of_kind

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


def _granted(account: str) -> set[tuple[str, str, str, str]]:
    """By all Roles that are bound to a service account, whatever they are called."""
    objects = build(K8S)
    bound = {
        binding["roleRef"]["name"]
        for binding in of_kind(objects, "RoleBinding")
        if any((subject["kind"], subject["name"]) == ("ServiceAccount", account) for subject in binding["subjects"])
    }
    return {right for role in of_kind(objects, "Role") if role["metadata"]["name"] in bound for right in _rights(role["rules"])}


def test_the_trainer_may_do_what_launcher_and_slots_ask_for() -> None:
    assert _granted("trainer") == _rights((*TRAINING, *SLOTS))
