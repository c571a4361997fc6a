"""A stand-in cluster that allows what the trainer asks for in its manifests, and no more, and launchers into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from services.trainer.cluster.permissions import TRAINING
from services.trainer.jobs.kubernetes_launcher import KubernetesLauncher
from services.trainer.settings import TrainerSettings
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_world import KubernetesWorld

StartLauncher = Callable[..., Awaitable[KubernetesLauncher]]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(TRAINING).serving(tmp_path) as api:
        yield api


@pytest.fixture
def cluster(api: KubernetesApi) -> KubernetesWorld:
    return KubernetesWorld(api)


@pytest.fixture
async def start_launcher(cluster: KubernetesWorld) -> AsyncIterator[StartLauncher]:
    """Each call is another trainer."""
    async with AsyncExitStack() as stack:

        async def start(on_change: Callable[[], None] = lambda: None, **changes: Any) -> KubernetesLauncher:
            launcher = KubernetesLauncher(settings_for(cluster.api, **changes))
            await launcher.start(on_change)
            stack.push_async_callback(launcher.close)
            return launcher

        yield start


def settings_for(api: KubernetesApi, **changes: Any) -> TrainerSettings:
    values = {"trainer_launcher": "kubernetes", "worker_image": "registry.example/trainer:1.0.0", "worker_grace": 30.0}
    return TrainerSettings.model_validate(values | {"kubernetes_config": str(api.kubeconfig)} | changes)
