"""The rendered objects: valid by the official schemas of two Kubernetes versions, and as the design says."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from langptune.errors import FailedPrecondition
from services.trainer.jobs.kubernetes_job import Layout, job_key, job_name, render_job, render_service
from services.trainer.settings import TrainerSettings

VERSIONS = ("1.31", "1.34")
RICH: dict[str, Any] = {
    "worker_image": "registry.example/langptune-trainer:1.0.0",
    "worker_config_maps": "langptune-trainer, langptune-shared",
    "worker_secrets": "langptune-redis",
    "worker_service_account": "langptune-worker",
    "worker_volume_claim": "langptune-training",
    "worker_gpus": 2,
    "worker_node_selector": {"example.com/gpu": "a100"},
    "worker_tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "worker_priority_class": "langptune-training",
    "worker_queue": "gpus",
    "worker_deadline_seconds": 3_600,
    "worker_kept_seconds": 600,
    "worker_grace": 45.0,
}


def settings(**changes: Any) -> TrainerSettings:
    return TrainerSettings(**{**RICH, **changes})


def _pod(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("rich", [True, False])
def test_job_and_service_are_valid(version: str, processes: int, rich: bool) -> None:
    chosen = settings() if rich else TrainerSettings(worker_image="image:1", worker_gpus=0)
    job = render_job("Books: nightly", 3, processes, chosen)
    kubernetes_validate.validate(job, version, strict=True)
    job["metadata"]["uid"] = "an-uid"
    kubernetes_validate.validate(render_service(job), version, strict=True)


def test_a_job_of_several_pods_meets_in_pod_0() -> None:
    """8 processes in pods of 2 GPUs are 4 pods. Rank: the completion index; address: host name and subdomain of pod 0."""
    job = render_job("books", 3, 8, settings())
    name = job["metadata"]["name"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["completionMode"]) == (4, 4, "Indexed")
    container = _pod(job)["containers"][0]
    assert " ".join([*container["command"], *container["args"]]) == (
        f"python -m torch.distributed.run --nproc-per-node 2 --nnodes 4 --node-rank $(JOB_COMPLETION_INDEX)"
        f" --master-addr {name}-0.{name} --master-port 29500 -m services.trainer.worker --job books --attempt 3 --processes 8"
    )
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": "2"}
    service = render_service({**job, "metadata": {**job["metadata"], "uid": "an-uid"}})
    assert service["metadata"]["name"] == _pod(job)["subdomain"] == name
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert service["metadata"]["ownerReferences"][0]["uid"] == "an-uid"


def test_a_job_of_one_process_needs_no_rendezvous() -> None:
    job = render_job("books", 1, 1, settings())
    container = _pod(job)["containers"][0]
    assert [*container["command"], *container["args"]] == [
        *("python", "-m", "services.trainer.worker"),
        *("--job", "books", "--attempt", "1"),
    ]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_kubernetes_never_retries_an_attempt_and_cleans_up_after_it() -> None:
    spec = render_job("books", 1, 1, settings())["spec"]
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (3_600, 600)
    assert spec["suspend"] is True  # until Kueue admits it
    assert "suspend" not in render_job("books", 1, 1, settings(worker_queue=""))["spec"]


def test_the_pod_is_what_the_settings_say_and_restricted() -> None:
    job = render_job("books", 1, 1, settings())
    pod, container = _pod(job), _pod(job)["containers"][0]
    sources = [next(iter(each.values()))["name"] for each in container["envFrom"]]
    assert sources == ["langptune-trainer", "langptune-shared", "langptune-redis"]
    assert pod["nodeSelector"] == RICH["worker_node_selector"]
    assert pod["tolerations"] == RICH["worker_tolerations"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("langptune-worker", False)
    assert (pod["priorityClassName"], pod["terminationGracePeriodSeconds"]) == ("langptune-training", 45)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    user = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), 10_001)
    assert pod["securityContext"] == {
        **user,
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {"/tmp": "tmp", "/dev/shm": "shared-memory", "/var/lib/langptune": "data"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounted.values())


@pytest.mark.parametrize("job_id", ["books", "Books", "a" * 64, "...", "a:b_c.d", "0", "-x-"])
def test_names_are_dns_labels_short_enough_for_a_host_name(job_id: str) -> None:
    host = f"{job_name(job_id, 9_999)}-{9_999}"
    assert len(host) <= 63
    assert host.replace("-", "").isalnum()
    assert host == host.lower()
    assert "--" not in host


def test_jobs_of_different_ids_never_share_a_name() -> None:
    alike = ["Books", "books", "BOOKS", "books.", "a" * 63, "a" * 64]
    assert len({job_key(job_id) for job_id in alike}) == len(alike)


@pytest.mark.parametrize(
    ("processes", "gpus", "pods", "each"), [(1, 0, 1, 1), (4, 0, 4, 1), (1, 8, 1, 1), (4, 8, 1, 4), (16, 8, 2, 8)]
)
def test_processes_fill_pods(processes: int, gpus: int, pods: int, each: int) -> None:
    assert Layout.of(processes, gpus) == Layout(pods, each)


def test_pods_that_would_differ_are_refused() -> None:
    with pytest.raises(FailedPrecondition, match="12 processes do not fill pods of 8 GPUs"):
        Layout.of(12, 8)
