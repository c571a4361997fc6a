"""Two Deployments of TGI in the stand-in cluster: what their controller and nodes do, with the stand-in for TGI as the pod.

`await TgiDeployments(api, folder).start()`; a Deployment's server listens on a port of its own (its Service), comes up some time
after it is asked for, and serves the model folder that its template names.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from langptune.local.process import free_port
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi, Object
from tests.support.tgi import FakeTgi, serving

NAMES = ("tgi-blue", "tgi-green")


class TgiDeployments:
    """`slow`: seconds that a server takes to come up. `broken`: a model folder that no server comes up with."""

    def __init__(self, api: KubernetesApi, *, slow: float = 0.05) -> None:
        self.api = api
        self.slow = slow
        self.broken: Path | None = None
        self.ports = {name: free_port() for name in NAMES}
        self.started: list[tuple[str, str]] = []  # (slot, model), in order
        self._serving: dict[str, tuple[str, AsyncExitStack]] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def urls(self) -> str:
        """As LANGPTUNE_ENCODER_TGI_URLS."""
        return ",".join(f"http://127.0.0.1:{self.ports[name]}" for name in NAMES)

    async def start(self) -> None:
        """Both Deployments, scaled to zero."""
        for name in NAMES:
            self.api.put("deployments", _deployment(name))
        self.api.on_write = lambda what, resource, thing: self._news.set()
        self._task = asyncio.create_task(self._control())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for name in NAMES:
            await self._end(name)

    def serves(self, name: str) -> str:
        """The model that answers there now, "" for none."""
        return self._serving[name][0] if name in self._serving else ""

    async def _control(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.gather(*map(self._reconcile, NAMES))

    async def _reconcile(self, name: str) -> None:
        found = self.api.get("deployments", name)
        env = found["spec"]["template"]["spec"]["containers"][0].get("env") or [{"name": "MODEL_ID", "value": ""}]
        model = env[0]["value"] if found["spec"]["replicas"] else ""
        if model != self.serves(name):
            await self._end(name)
            if model and Path(model) != self.broken:
                await self._begin(name, model)
        progress = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
        if self.broken and Path(model) == self.broken:
            message = f'ReplicaSet "{name}-1" has timed out progressing.'
            progress = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": message}
        status = {"observedGeneration": found["metadata"].get("generation", 1), "conditions": [progress]}
        now = self.api.get("deployments", name)
        if now.get("status") != status:
            self.api.put("deployments", {**now, "status": status})

    async def _begin(self, name: str, model: str) -> None:
        await asyncio.sleep(self.slow)
        stack = AsyncExitStack()
        server = await asyncio.to_thread(FakeTgi, Path(model))
        await stack.enter_async_context(serving(server, self.ports[name]))
        self._serving[name] = (model, stack)
        self.started.append((name, model))

    async def _end(self, name: str) -> None:
        if name in self._serving:
            _, stack = self._serving.pop(name)
            await stack.aclose()


def _deployment(name: str) -> Object:
    labels = {"app.kubernetes.io/name": name}
    container = {"name": "tgi", "image": "ghcr.io/huggingface/text-generation-inference:3.3.7", "args": ["--dtype", "bfloat16"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels, "generation": 1}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
