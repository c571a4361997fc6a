"""Settings of a trainer on Kubernetes: how it reaches the API, and the pods that its workers run in."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class KubernetesSettings(BaseSettings):
    """Read where LANGPTUNE_TRAINER_LAUNCHER is kubernetes; docs/kubernetes-launcher.md shows them at work."""

    model_config = SettingsConfigDict(env_prefix="LANGPTUNE_", env_file=".env", extra="ignore", frozen=True)

    kubernetes_namespace: str = Field("langptune", description="namespace that workers run in: the trainer's own")
    kubernetes_config: str = Field("", description="kubeconfig file; empty: the service account of the pod that this runs in")
    kubernetes_timeout: float = Field(10.0, gt=0, description="deadline of one call of the Kubernetes API, in seconds")
    worker_image: str = Field("", description="image of a worker's pod: the trainer's own")
    worker_config_maps: str = Field("", description="ConfigMaps that are a worker's environment: the trainer's; comma-separated")
    worker_secrets: str = Field("", description="Secrets that are a worker's environment: the trainer's; comma-separated")
    worker_service_account: str = Field("default", description="service account of a worker's pod; it needs no permission")
    worker_user: int = Field(10_001, ge=1, description="user and group id of a worker's pod and of its volume: the trainer's own")
    worker_volume_claim: str = Field("", description="PersistentVolumeClaim with jobs and data sets, shared with the trainer")
    worker_volume_path: str = Field("/var/lib/langptune", description="where that volume is mounted, as in the trainer's pod")
    worker_gpus: int = Field(1, ge=0, le=64, description="GPUs of a pod, with a process each; 0: one process, on CPUs")
    worker_gpu_resource: str = Field("nvidia.com/gpu", description="name of the GPU resource")
    worker_cpu: str = Field("4", description="CPUs that a worker's pod requests, as a Kubernetes quantity")
    worker_memory: str = Field("32Gi", description="memory that a worker's pod requests and may use at most, as a quantity")
    worker_shared_memory: str = Field("8Gi", description="size of a pod's /dev/shm, part of its memory, as a quantity")
    worker_node_selector: dict[str, str] = Field(default_factory=dict, description="labels of the nodes for workers, as JSON")
    worker_tolerations: list[dict[str, Any]] = Field(
        default_factory=list, description="tolerations of a worker's pod, as a JSON list of Kubernetes Tolerations"
    )
    worker_priority_class: str = Field("", description="PriorityClass of a worker's pod")
    worker_queue: str = Field("", description="Kueue LocalQueue that admits the Jobs; empty: without Kueue")
    worker_deadline_seconds: int = Field(7 * 86_400, ge=60, description="seconds after which one attempt at a job is ended")
    worker_kept_seconds: int = Field(86_400, ge=60, description="seconds that an ended attempt's Job, pods and logs are kept")
    worker_start_seconds: float = Field(
        300.0, ge=0, description="seconds that a pod's container may fail to start (image, ConfigMap) before its job has failed"
    )
