"""What the trainer's service account must be allowed in its namespace, in the form of a Role's rules.

The one list: the manifests' Role is compared with it, and the tests' API server refuses whatever is not in it.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Rule(TypedDict):
    """A PolicyRule of rbac.authorization.k8s.io/v1."""

    apiGroups: list[str]
    resources: list[str]
    verbs: list[str]
    resourceNames: NotRequired[list[str]]


TRAINING: tuple[Rule, ...] = (  # LANGPTUNE_TRAINER_LAUNCHER=kubernetes
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["create"]},  # removed with the Job that owns it
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"]},  # created by the Job's controller
)

SLOTS: tuple[Rule, ...] = (  # LANGPTUNE_TGI_SLOTS=kubernetes; the names are those of LANGPTUNE_TGI_DEPLOYMENTS
    {
        "apiGroups": ["apps"],
        "resources": ["deployments"],
        "verbs": ["get", "patch"],
        "resourceNames": ["tgi-blue", "tgi-green"],
    },
)
