"""The Kubernetes objects of one attempt at a job: an Indexed Job, and the headless Service by which its pods find one another.

The name of the Job is the job and the attempt, so the API itself refuses to start an attempt twice. Kubernetes never retries it
(backoffLimit 0): attempts are the job table's to give. Several processes run torch.distributed.run with a static rendezvous:
a pod's rank is its completion index, and pod 0, by its name in the Service, is where they meet. Nothing here talks to the API.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langptune.errors import FailedPrecondition
from services.trainer.settings import TrainerSettings

MANAGED = "app.kubernetes.io/managed-by=langptune-trainer"  # the label by which a trainer finds what trainers made
JOB_LABEL, ATTEMPT_LABEL = "langptune.io/job", "langptune.io/attempt"
POD_JOB_LABEL = "batch.kubernetes.io/job-name"  # that the Job's controller puts on pods

_JOB_ID = "langptune.io/job-id"  # annotation: the id as it was given, whatever characters it has
_QUEUE = "kueue.x-k8s.io/queue-name"
_DISRUPTED = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}  # told apart from defects
_PORT = 29_500  # of the rendezvous, in pod 0
_READABLE = 28  # characters of a job id in names; a pod's host name, "<name>-<attempt>-<index>", has at most 63


@dataclass(frozen=True, slots=True)
class Layout:
    """How a job's processes lie in pods."""

    pods: int
    processes: int  # of each pod

    @classmethod
    def of(cls, processes: int, gpus: int) -> Layout:
        """A process for each GPU of a pod, one where it has none. Raises FailedPrecondition when pods would differ."""
        each = min(processes, max(1, gpus))
        if processes % each:
            message = f"{processes} processes do not fill pods of {each} GPUs: ask for a multiple of LANGPTUNE_WORKER_GPUS"
            raise FailedPrecondition(message, reason="UNEVEN_PODS")
        return cls(processes // each, each)


def job_key(job_id: str) -> str:
    """The job's name in the cluster: readable, a DNS label, and different for different ids."""
    readable = re.sub(r"[^a-z0-9]+", "-", job_id.lower())[:_READABLE].strip("-")
    return "-".join(filter(None, ("train", readable, hashlib.sha256(job_id.encode()).hexdigest()[:8])))


def job_name(job_id: str, attempt: int) -> str:
    """The name of the attempt's Job and Service."""
    return f"{job_key(job_id)}-{attempt}"


def render_job(job_id: str, attempt: int, processes: int, settings: TrainerSettings) -> dict[str, Any]:
    """A batch/v1 Job. Raises FailedPrecondition for processes that do not fill pods."""
    layout = Layout.of(processes, settings.worker_gpus)
    labels = _labels(job_id, attempt)
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": layout.pods,
        "parallelism": layout.pods,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [_DISRUPTED]},
        "activeDeadlineSeconds": settings.worker_deadline_seconds,
        "ttlSecondsAfterFinished": settings.worker_kept_seconds,
        "template": {"metadata": {"labels": labels}, "spec": _pod(job_id, attempt, layout, settings)},
    }
    metadata: dict[str, Any] = {
        "name": job_name(job_id, attempt),
        "namespace": settings.kubernetes_namespace,
        "labels": dict(labels),
        "annotations": {_JOB_ID: job_id},
    }
    if settings.worker_queue:
        metadata["labels"][_QUEUE] = settings.worker_queue
        spec["suspend"] = True  # until Kueue admits it
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def render_service(job: Mapping[str, Any]) -> dict[str, Any]:
    """The headless v1 Service of a Job that exists; it goes with its Job."""
    metadata = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    labels = {name: value for name, value in metadata["labels"].items() if name != _QUEUE}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [{**owner, "blockOwnerDeletion": False}],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # pods meet before they are ready
            "selector": {POD_JOB_LABEL: metadata["name"]},
            "ports": [{"name": "rendezvous", "port": _PORT, "targetPort": _PORT, "protocol": "TCP"}],
        },
    }


def _labels(job_id: str, attempt: int) -> dict[str, str]:
    managed, _, by = MANAGED.partition("=")
    return {
        "app.kubernetes.io/name": "langptune",
        "app.kubernetes.io/component": "trainer-worker",
        managed: by,
        JOB_LABEL: job_key(job_id),
        ATTEMPT_LABEL: str(attempt),
    }


def _pod(job_id: str, attempt: int, layout: Layout, settings: TrainerSettings) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "subdomain": job_name(job_id, attempt),
        "serviceAccountName": settings.worker_service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(settings.worker_grace),
        "securityContext": {
            "runAsNonRoot": True,
            **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), settings.worker_user),
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job_id, attempt, layout, settings)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": settings.worker_shared_memory}},
        ],
    }
    if settings.worker_volume_claim:
        pod["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": settings.worker_volume_claim}})
    if settings.worker_node_selector:
        pod["nodeSelector"] = dict(settings.worker_node_selector)
    if settings.worker_tolerations:
        pod["tolerations"] = [dict(each) for each in settings.worker_tolerations]
    if settings.worker_priority_class:
        pod["priorityClassName"] = settings.worker_priority_class
    return pod


def _container(job_id: str, attempt: int, layout: Layout, settings: TrainerSettings) -> dict[str, Any]:
    limits = {"memory": settings.worker_memory}
    if settings.worker_gpus:
        limits[settings.worker_gpu_resource] = str(layout.processes)
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shared-memory", "mountPath": "/dev/shm"}]
    if settings.worker_volume_claim:
        mounts.append({"name": "data", "mountPath": settings.worker_volume_path})
    return {
        "name": "worker",
        "image": settings.worker_image,
        "command": ["python", "-m"],
        "args": _arguments(job_id, attempt, layout),
        "envFrom": [
            *({"configMapRef": {"name": name}} for name in _names(settings.worker_config_maps)),
            *({"secretRef": {"name": name}} for name in _names(settings.worker_secrets)),
        ],
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "OMP_NUM_THREADS", "value": str(settings.torch_threads)},
            {"name": "TOKENIZERS_PARALLELISM", "value": "false"},
        ],
        "ports": [{"name": "rendezvous", "containerPort": _PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": settings.worker_cpu, **limits}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",  # its last words come with its status
        "volumeMounts": mounts,
    }


def _arguments(job_id: str, attempt: int, layout: Layout) -> list[str]:
    worker = ["services.trainer.worker", "--job", job_id, "--attempt", str(attempt)]
    total = layout.pods * layout.processes
    if total == 1:
        return worker
    name = job_name(job_id, attempt)
    together = ["torch.distributed.run", "--nproc-per-node", str(layout.processes), "--nnodes", str(layout.pods)]
    meet = ["--node-rank", "$(JOB_COMPLETION_INDEX)", "--master-addr", f"{name}-0.{name}", "--master-port", str(_PORT)]
    return [*together, *meet, "-m", *worker, "--processes", str(total)]


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]
