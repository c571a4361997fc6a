"""What the statuses of a Kubernetes Job and its pods mean for the training job: it waits, it runs, or how it ended and why.

Pure functions of the API's objects (batch/v1 Job, v1 Pod). A Job here is one attempt and is never retried by Kubernetes, so the
first pod that failed is the cause; the others were ended because of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.trainer.jobs.launcher import Fault, Life, Sighting

Status = Mapping[str, Any]

# Reasons of a container that waits: none of them passes by itself, but an image may be pushed or a Secret created meanwhile.
_STUCK = {
    "ErrImagePull": "its image cannot be pulled",
    "ImagePullBackOff": "its image cannot be pulled",
    "ErrImageNeverPull": "its image is not on the node",
    "InvalidImageName": "the name of its image is not valid",
    "CreateContainerConfigError": "its container cannot be configured",
    "CreateContainerError": "its container cannot be created",
    "RunContainerError": "its container cannot be started",
}
_TAKEN = {"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting"}  # reasons of a pod that its node ended
_FIRST_SIGNAL = 128  # exit codes above are signals, as a shell tells them
_LOG_CHARACTERS = 300


def has_ended(job: Status, pods: Sequence[Status]) -> bool:
    """Whether nothing of it can still run."""
    finished = _condition(job, "Complete") is not None or _condition(job, "Failed") is not None
    return finished and not any_left(pods)


def any_left(pods: Sequence[Status]) -> bool:
    """Whether any of them can still run, or run again."""
    return any(pod.get("status", {}).get("phase", "Pending") not in ("Succeeded", "Failed") for pod in pods)


def standing(job: Status, pods: Sequence[Status]) -> Sighting:
    """Of a Job that has not ended. What a container waits for in vain is not known as lasting here: that takes a clock."""
    phases = [pod.get("status", {}).get("phase", "Pending") for pod in pods]
    if len(pods) >= job["spec"]["parallelism"] and "Pending" not in phases:
        return Sighting(Life.RUNNING)
    if "Running" in phases:
        return Sighting(Life.WAITING, f"waits for the rest of its {job['spec']['parallelism']} pods{_first_reason(pods)}")
    if job["spec"].get("suspend"):
        queue = job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name", "")
        return Sighting(Life.WAITING, f"waits in the queue {queue}" if queue else "is suspended")
    return Sighting(Life.WAITING, f"waits for its pods to start{_first_reason(pods)}")


def stuck(pods: Sequence[Status]) -> str:
    """Why a container cannot start, "" if none is stuck."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses") or ():
            waiting = container.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in _STUCK:
                told = waiting.get("message") or waiting["reason"]
                return f"{_STUCK[waiting['reason']]} ({container['image']}): {told}"
    return ""


def ending(job: Status, pods: Sequence[Status]) -> Sighting:
    """Of a Job that has ended; `pods` may be incomplete, or gone."""
    failed = _condition(job, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded":
        return Sighting(Life.GONE, f"ran for longer than {job['spec']['activeDeadlineSeconds']} s", Fault.LASTING)
    causes = sorted((pod for pod in pods if _has_failed(pod)), key=_end_time)
    taken = next((told for pod in causes if (told := _taken(pod))), "")
    if taken:
        return Sighting(Life.GONE, taken, Fault.PLATFORM)
    if failed.get("reason") == "PodFailurePolicy":  # DisruptionTarget is the only rule of ours
        return Sighting(Life.GONE, f"lost its machine: {failed.get('message', 'a pod was disrupted')}", Fault.PLATFORM)
    if causes:
        return Sighting(Life.GONE, _died(causes[0]))
    if failed:
        return Sighting(Life.GONE, f"has failed: {failed.get('message') or failed.get('reason')}")
    return Sighting(Life.GONE, "ended with exit code 0, but had not finished the job")


def _first_reason(pods: Sequence[Status]) -> str:
    told = stuck(pods)
    for pod in pods:
        scheduled = _condition(pod, "PodScheduled", "False")
        if not told and scheduled:
            told = f"no node has room ({scheduled.get('message') or scheduled.get('reason')})"
    return f": {told}" if told else ""


def _taken(pod: Status) -> str:
    """How its machine was taken from it, "" if it was not."""
    status = pod["status"]
    disruption = _condition(pod, "DisruptionTarget")
    if disruption:
        return f"was evicted ({disruption.get('reason')}): {disruption.get('message') or status.get('message') or 'no word why'}"
    if status.get("reason") in _TAKEN:
        return f"was evicted ({status['reason']}): {status.get('message') or 'no word why'}"
    return ""


def _died(pod: Status) -> str:
    ended = _terminated(pod)
    if ended is None:
        return f"has failed: {pod['status'].get('message') or pod['status'].get('reason') or 'no word why'}"
    if ended.get("reason") == "OOMKilled":
        limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "unknown")
        return f"ran out of memory (its pod's limit is {limit})"
    code = ended["exitCode"]
    how = f"was ended by signal {code - _FIRST_SIGNAL}" if code > _FIRST_SIGNAL else f"ended with exit code {code}"
    last = (ended.get("message") or "").strip().rpartition("\n")[2][:_LOG_CHARACTERS]
    return f"{how} ({last})" if last else how


def _has_failed(pod: Status) -> bool:
    ended = _terminated(pod)
    return pod["status"].get("phase") == "Failed" or (ended is not None and ended["exitCode"] != 0)


def _end_time(pod: Status) -> str:
    """RFC 3339, so its order is that of time; one that never ran comes first."""
    ended = _terminated(pod)
    return str(ended.get("finishedAt") or "") if ended else ""


def _terminated(pod: Status) -> Mapping[str, Any] | None:
    for container in pod["status"].get("containerStatuses") or ():
        if ended := (container.get("state") or {}).get("terminated"):
            found: Mapping[str, Any] = ended
            return found
    return None


def _condition(thing: Status, name: str, status: str = "True") -> Mapping[str, Any] | None:
    conditions: Sequence[Mapping[str, Any]] = thing.get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == name and each["status"] == status), None)
