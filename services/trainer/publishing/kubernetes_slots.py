"""The two slots as Deployments of text-generation-inference: one patch sets the model and the replicas of one, nothing else.

The Deployments come from the manifests (image, GPU, probes, volume). What a slot serves is the MODEL_ID of its container, or the
base model where it has none yet, so the cluster is the only memory. One that does not come up is told by its progress deadline.
"""

from __future__ import annotations

import asyncio
from typing import Any

from services.trainer.cluster.api import ClusterApi, Object
from services.trainer.publishing.slots import Slot
from services.trainer.settings import TrainerSettings

_MODEL = "MODEL_ID"  # the environment variable by which TGI is told its --model-id


class KubernetesSlots:
    """Implements `services.trainer.publishing.slots.SlotLauncher`."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._api = ClusterApi(settings)
        self._names = [name.strip() for name in settings.tgi_deployments.split(",") if name.strip()]
        self._container = settings.tgi_container
        self._replicas = settings.tgi_replicas
        self._base_model = settings.profile_model

    async def start(self) -> None:
        await self._api.open()

    async def close(self) -> None:
        await self._api.close()

    async def slots(self) -> list[Slot]:
        """Raises NotFound for a Deployment that is not there."""
        return [self._slot(found) for found in await asyncio.gather(*map(self._api.deployment, self._names))]

    async def bring_up(self, name: str, model: str) -> None:
        container = {"name": self._container, "env": [{"name": _MODEL, "value": model}]}
        template = {"spec": {"containers": [container]}}
        await self._api.patch_deployment(name, {"spec": {"replicas": self._replicas, "template": template}})

    async def stop(self, name: str) -> None:
        await self._api.patch_deployment(name, {"spec": {"replicas": 0}})

    def _slot(self, deployment: Object) -> Slot:
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        if spec.get("replicas", 1) == 0:
            return Slot(name, "")
        return Slot(name, self._model(spec["template"]["spec"]["containers"]), _problem(deployment))

    def _model(self, containers: list[dict[str, Any]]) -> str:
        env = next((each.get("env") or () for each in containers if each["name"] == self._container), ())
        return next((each.get("value", "") for each in env if each["name"] == _MODEL), self._base_model)


def _problem(deployment: Object) -> str:
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return ""  # what is told is of an older template
    for condition in status.get("conditions") or ():
        if condition["type"] == "Progressing" and condition["status"] == "False":
            return f"did not come up: {condition.get('message') or condition.get('reason')}"
    return ""
