"""What happens behind the stand-in's API: the Job controller as it is documented, and nodes whose pods do what a test says.

A pod runs, ends, is killed for memory, is evicted or cannot start only when told (`run`, `end`, `evict`, ...). One that is
deleted while it runs gets its SIGTERM, and ends at once unless `obeys` is False (a long step, or a node that is lost).
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from tests.support.kubernetes_api import KubernetesApi, Object

_JOB, _INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"
_DONE = ("Succeeded", "Failed")


class KubernetesWorld:
    """Controllers and nodes over `api`."""

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        self.obeys = True
        self._creating = False
        api.on_write = self._reconcile

    # ---- what a test makes happen

    def run(self, job: str) -> None:
        """All pods of a Job start."""
        for pod in self._pods(job):
            pod["status"] = {**pod["status"], "phase": "Running", "conditions": [_condition("PodScheduled", "True")]}
            pod["status"]["containerStatuses"] = [_container(pod, {"running": {"startedAt": _now()}})]
            self.api.put("pods", pod)

    def end(self, job: str, index: int = 0, *, code: int = 0, reason: str = "", message: str = "") -> None:
        """The process of a pod ends by itself."""
        pod = self._pods(job)[index]
        ended = {
            "exitCode": code,
            "reason": reason or ("Error" if code else "Completed"),
            "finishedAt": _now(),
            "message": message,
        }
        pod["status"] |= {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [_container(pod, {"terminated": ended})],
        }
        self.api.put("pods", pod)

    def evict(self, job: str, index: int = 0) -> None:
        """By the eviction API, as `kubectl drain` does: the pod is told, ends, and is removed."""
        pod = self._pods(job)[index]
        message = "Eviction API: evicting"
        pod["status"]["conditions"].append(_condition("DisruptionTarget", "True", "EvictionByEvictionAPI", message))
        pod["metadata"]["deletionTimestamp"] = _now()
        ended = {"exitCode": 143, "reason": "Error", "finishedAt": _now()}
        pod["status"] |= {"phase": "Failed", "containerStatuses": [_container(pod, {"terminated": ended})]}
        self.api.put("pods", pod)
        self.api.remove("pods", pod["metadata"]["name"])

    def press(self, job: str, index: int = 0) -> None:
        """A node short of memory evicts a pod, whose object stays."""
        pod = self._pods(job)[index]
        pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
        pod["status"].pop("containerStatuses", None)
        self.api.put("pods", pod)

    def hold_back(self, job: str, reason: str, message: str) -> None:
        """The containers cannot start."""
        for pod in self._pods(job):
            pod["status"]["containerStatuses"] = [_container(pod, {"waiting": {"reason": reason, "message": message}})]
            self.api.put("pods", pod)

    def no_room(self, job: str, message: str) -> None:
        """No node fits."""
        for pod in self._pods(job):
            pod["status"]["conditions"] = [_condition("PodScheduled", "False", "Unschedulable", message)]
            self.api.put("pods", pod)

    def admit(self, job: str) -> None:
        """As Kueue does when the queue has room."""
        found = self.api.get("jobs", job)
        found["spec"]["suspend"] = False
        self.api.put("jobs", found)

    def pass_deadline(self, job: str) -> None:
        """activeDeadlineSeconds are over."""
        self._fail(self.api.get("jobs", job), "DeadlineExceeded", "Job was active longer than specified deadline")

    # ---- the Job controller and the kubelet

    def _reconcile(self, what: str, resource: str, thing: Object) -> None:
        if resource == "jobs" and what == "ADDED":
            thing["status"] = {}
            self.api.put("jobs", thing)
        elif resource == "jobs" and what == "MODIFIED":
            self._create_pods(thing)
        elif resource == "pods":
            self._kubelet(what, thing)
            self._account(thing["metadata"]["labels"].get(_JOB, ""))

    def _create_pods(self, job: Object) -> None:
        status, spec, name = job["status"], job["spec"], job["metadata"]["name"]
        if spec.get("suspend") or "deletionTimestamp" in job["metadata"] or "startTime" in status:
            return
        job["status"] = {**status, "startTime": _now(), "active": spec["parallelism"]}
        job = self.api.put("jobs", job)
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        self._creating = True
        for index in range(spec["parallelism"]):
            template: dict[str, Any] = spec["template"]
            labels = {**template["metadata"]["labels"], _JOB: name, _INDEX: str(index)}
            metadata = {"name": f"{name}-{index}-{uuid.uuid4().hex[:5]}", "labels": labels}
            metadata["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
            pod_spec = {**template["spec"], "hostname": f"{name}-{index}"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec}
            self.api.put("pods", {**pod, "status": {"phase": "Pending", "conditions": [_condition("PodScheduled", "True")]}})
        self._creating = False

    def _kubelet(self, what: str, pod: Object) -> None:
        told_to_end = "deletionTimestamp" in pod["metadata"] and pod["status"]["phase"] == "Running"
        if what == "MODIFIED" and told_to_end and self.obeys:
            ended = {"exitCode": 0, "reason": "Completed", "finishedAt": _now()}
            pod["status"] |= {"phase": "Succeeded", "containerStatuses": [_container(pod, {"terminated": ended})]}
            self.api.put("pods", pod)
            self.api.remove("pods", pod["metadata"]["name"])

    def _account(self, name: str) -> None:
        try:
            job = self.api.get("jobs", name)
        except KeyError:
            return
        if (
            self._creating
            or "startTime" not in job["status"]
            or "deletionTimestamp" in job["metadata"]
            or job["status"].get("conditions")
        ):
            return
        pods = self._pods(name)
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        succeeded = sum(pod["status"]["phase"] == "Succeeded" for pod in pods)
        if failed or len(pods) < job["spec"]["parallelism"]:
            self._fail_for(job, failed)
        elif succeeded == job["spec"]["completions"]:
            job["status"] |= {"succeeded": succeeded, "active": 0, "conditions": [_condition("Complete", "True")]}
            self.api.put("jobs", job)

    def _fail_for(self, job: Object, failed: list[Object]) -> None:
        disrupted = [pod for pod in failed if any(each["type"] == "DisruptionTarget" for each in pod["status"]["conditions"])]
        if disrupted and job["spec"].get("podFailurePolicy"):
            pod_name = disrupted[0]["metadata"]["name"]
            message = f"Pod langptune/{pod_name} has condition DisruptionTarget matching FailJob rule at index 0"
            self._fail(job, "PodFailurePolicy", message)
        else:
            self._fail(job, "BackoffLimitExceeded", "Job has reached the specified backoff limit")

    def _fail(self, job: Object, reason: str, message: str) -> None:
        """The remaining pods are ended."""
        job["status"] |= {"active": 0, "failed": 1, "conditions": [_condition("Failed", "True", reason, message)]}
        self.api.put("jobs", job)
        for pod in self._pods(job["metadata"]["name"]):
            if pod["status"]["phase"] not in _DONE:
                self.api.delete("pods", pod["metadata"]["name"], {})

    def _pods(self, job: str) -> list[Object]:
        return sorted(self.api.all("pods", **{_JOB: job}), key=lambda pod: int(pod["metadata"]["labels"][_INDEX]))


def _container(pod: Object, state: Object) -> Object:
    spec = pod["spec"]["containers"][0]
    ready = "running" in state
    return {"name": spec["name"], "image": spec["image"], "imageID": "", "ready": ready, "restartCount": 0, "state": state}


def _condition(name: str, status: str, reason: str = "", message: str = "") -> Object:
    return {"type": name, "status": status, "reason": reason, "message": message, "lastTransitionTime": _now()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
