"""Checks of the pods themselves: settings, probes, the arithmetic of draining, security, images, resources, replicas."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from langptune.settings import ServiceSettings
from services.decoder.settings import DecoderSettings
from services.encoder.settings import EncoderSettings
from services.gateway.settings import GatewaySettings
from services.trainer.settings import TrainerSettings
from tests.support.k8s.manifests import WORKLOADS, Object, containers, environment, label, named, of_kind, pod_template

SETTINGS: Mapping[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "encoder": EncoderSettings,
    "rollouts": EncoderSettings,  # the same image, for training; only with components/gpu-training
    "decoder": DecoderSettings,
    "trainer": TrainerSettings,
}
SPARE = 10  # seconds that a drain has left over when all goes as it should
_FOREIGN = re.compile(r"HF_|AWS_|QDRANT__|OTEL_|REDISCLI_AUTH|QDRANT_INIT_FILE_PATH|HOME$|MODEL_ID$|WORKER_|OMP_|SSL_CERT")


def resolved(objects: Sequence[Object], service: str) -> Any:
    """The settings that the service will find. Raises ValidationError as its start would."""
    (container,) = named(objects, "Deployment", service)["spec"]["template"]["spec"]["containers"]
    kind = SETTINGS[service]
    given = {
        name.removeprefix("LANGPTUNE_").lower(): value
        for name, value in environment(objects, container).items()
        if name.startswith("LANGPTUNE_")
    }
    source = EnvSettingsSource(kind)  # parses JSON values; asked alone, so that nothing of this process's own is seen
    source.env_vars = {f"langptune_{name}": value for name, value in given.items()}
    return kind.model_validate(source())


def settings(objects: Sequence[Object]) -> list[str]:
    """Every variable is a setting that the service knows, its value one that it accepts, and every address one that is there."""
    problems = []
    for workload in of_kind(objects, "Deployment"):
        service = workload["metadata"]["name"]
        if not (kind := SETTINGS.get(service)):
            continue
        for container in containers(workload):
            for name in environment(objects, container):
                known = name.startswith("LANGPTUNE_") and name.removeprefix("LANGPTUNE_").lower() in kind.model_fields
                if not known and not _FOREIGN.match(name):
                    problems.append(f"{service} is told {name}, which is no setting of it")
        try:
            found = resolved(objects, service)
        except ValidationError as error:
            problems += [f"{service}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            continue
        problems += _addresses(objects, service, found)
    return problems + [f"{label(each)}: $({name}) comes too late" for each, name in _late_references(objects)]


def probes(objects: Sequence[Object]) -> list[str]:
    """All three on every container; what liveness asks is this pod, and it waits until the start is over."""
    problems = []
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            missing = {"startupProbe", "readinessProbe", "livenessProbe"} - set(container)
            problems += [f"{label(workload)}: {container['name']} has no {probe}" for probe in sorted(missing)]
            live = container.get("livenessProbe", {})
            if "host" in live.get("httpGet", {}) or "host" in live.get("tcpSocket", {}):
                problems.append(f"{label(workload)}: liveness asks another host")
            if live and live.get("failureThreshold", 3) * live.get("periodSeconds", 10) < 60:
                problems.append(f"{label(workload)}: liveness gives up within a minute")
    return problems


def drains(objects: Sequence[Object]) -> list[str]:
    """A pod's grace covers what its process takes to end: preStop, then running calls, then what comes after them."""
    encoder = resolved(objects, "encoder")
    needed: dict[str, float] = {  # by the container's name
        "encoder": encoder.shutdown_grace,
        "decoder": resolved(objects, "decoder").shutdown_grace,
        "gateway": 2 * resolved(objects, "gateway").shutdown_grace,  # gRPC, then HTTP
        "trainer": (trainer := resolved(objects, "trainer")).shutdown_grace + trainer.worker_grace,
        "tgi": encoder.encoder_tgi_timeout,
    }
    problems = []
    for workload in of_kind(objects, "Deployment"):
        spec = pod_template(workload)["spec"]
        for container in spec["containers"]:
            if container["name"] not in needed:
                continue
            pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            total = pause + needed[container["name"]] + SPARE
            if spec["terminationGracePeriodSeconds"] < total:
                problems.append(f"{label(workload)} is given {spec['terminationGracePeriodSeconds']} s and needs {total:g}")
    if encoder.encoder_engine == "tgi" and encoder.shutdown_grace < encoder.encoder_tgi_timeout:
        problems.append("the encoder's shutdown_grace is shorter than a text may take")
    return problems


def restricted(objects: Sequence[Object]) -> list[str]:
    """The `restricted` Pod Security Standard, a read-only root, an account of its own, and no token where none is needed."""
    problems = []
    for workload in of_kind(objects, *WORKLOADS):
        spec = pod_template(workload)["spec"]
        who, context = label(workload), spec.get("securityContext", {})
        rules: dict[str, bool] = {
            "runs as root": context.get("runAsNonRoot") is True and context.get("runAsUser", 0) > 0,
            "no seccomp profile": context.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "shares the host": not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
            "mounts the host's disk": not any("hostPath" in volume for volume in spec.get("volumes", ())),
            "the default account": spec.get("serviceAccountName", "default") != "default",
            "has a token": spec.get("automountServiceAccountToken") is False or workload["metadata"]["name"] == "trainer",
        }
        for container in containers(workload):
            inner = container.get("securityContext", {})
            name = container["name"]
            rules[f"{name} may escalate"] = inner.get("allowPrivilegeEscalation") is False
            rules[f"{name} may write its root"] = inner.get("readOnlyRootFilesystem") is True
            rules[f"{name} has capabilities"] = inner.get("capabilities") == {"drop": ["ALL"]}
            rules[f"{name} is privileged or root"] = not inner.get("privileged") and inner.get("runAsUser", 1) > 0
        problems += [f"{who}: {problem}" for problem, holds in rules.items() if not holds]
    levels = [each["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") for each in of_kind(objects, "Namespace")]
    return problems + ([] if levels == ["restricted"] else [f"namespaces enforce {levels}"])


def images(objects: Sequence[Object]) -> list[str]:
    """Every image has a tag that does not move."""
    problems = []
    for workload in of_kind(objects, *WORKLOADS):
        for container in containers(workload):
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            if "@sha256:" not in container["image"] and (not name or not re.fullmatch(r"v?\d+\.\d+\.\d+[\w.-]*", tag)):
                problems.append(f"{label(workload)}: image {container['image']} can change under its name")
    return problems


def resources(objects: Sequence[Object]) -> list[str]:
    """Requests for CPU and memory and a limit for memory everywhere; temporary folders with a size."""
    problems = []
    for workload in of_kind(objects, *WORKLOADS):
        for container in containers(workload):
            wanted = container.get("resources", {})
            if not {"cpu", "memory"} <= set(wanted.get("requests", {})) or "memory" not in wanted.get("limits", {}):
                problems.append(f"{label(workload)}: {container['name']} lacks requests or a memory limit")
        for volume in pod_template(workload)["spec"].get("volumes", ()):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                problems.append(f"{label(workload)}: volume {volume['name']} may fill the node's disk")
    return problems


def redis_memory(objects: Sequence[Object]) -> list[str]:
    """Redis stops taking writes before its pod is killed: at three quarters of the limit at most."""
    problems = []
    units = {"mb": 2**20, "gb": 2**30, "Mi": 2**20, "Gi": 2**30}
    for workload in of_kind(objects, "StatefulSet"):
        if workload["metadata"]["name"] == "redis":
            (container,) = workload["spec"]["template"]["spec"]["containers"]
            most, limit = (
                int(text[:-2]) * units[text[-2:]]
                for text in (environment(objects, container)["MAXMEMORY"], container["resources"]["limits"]["memory"])
            )
            problems += [] if 4 * most <= 3 * limit else [f"{label(workload)} keeps {most} bytes in {limit}"]
    return problems


def availability(objects: Sequence[Object]) -> list[str]:
    """A disruption budget for each, which lets a node be drained; several pods are spread; what must be one is never two."""
    problems = []
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")}
    budgets = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "PodDisruptionBudget")}
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        name, spec = workload["metadata"]["name"], pod_template(workload)["spec"]
        if name not in budgets:
            problems.append(f"{label(workload)} has no disruption budget")
        elif budgets[name].get("maxUnavailable") in (0, "0%", None):
            problems.append(f"{label(workload)}: no node with a pod of it could be drained")
        several = name in scaled or workload["spec"].get("replicas", 1) > 1
        if several and not (spec.get("topologySpreadConstraints") or spec.get("affinity", {}).get("podAntiAffinity")):
            problems.append(f"{label(workload)}: several pods, and nothing spreads them")
        if name in ("decoder", "trainer", "redis") and several:
            problems.append(f"{label(workload)} must be one pod")
        if (
            name in ("decoder", "trainer", "rollouts", "tgi-blue", "tgi-green")
            and workload["spec"].get("strategy", {}).get("type") != "Recreate"
        ):
            problems.append(f"{label(workload)}: an update would make it two pods")
        if name.startswith("tgi-") and "replicas" in workload["spec"]:
            problems.append(f"{label(workload)}: applying it again would undo what the trainer has set")
    return problems


def _addresses(objects: Sequence[Object], service: str, found: Any) -> list[str]:
    """Addresses within the cluster lead to a Service and a port of it; a service listens where its pod says."""
    offered = {
        f"{each['metadata']['name']}:{port['port']}" for each in of_kind(objects, "Service") for port in each["spec"]["ports"]
    }
    named_addresses = {name: getattr(found, name) for name in type(found).model_fields if name.endswith("_address")}
    wanted = {name: at for name, at in named_addresses.items() if at}  # an empty one stands for another
    if service == "encoder" and found.encoder_engine == "tgi":
        wanted |= {url: url.removeprefix("http://") for url in found.encoder_tgi_urls.split(",")}
    if service == "decoder" and found.qdrant_url.startswith("http://"):
        wanted["qdrant_url"] = found.qdrant_url.removeprefix("http://")
        wanted["qdrant_grpc_port"] = f"{wanted['qdrant_url'].partition(':')[0]}:{found.qdrant_grpc_port}"
    problems = [f"{service}: {name} is {at}, where no Service is" for name, at in wanted.items() if at not in offered]
    (container,) = named(objects, "Deployment", service)["spec"]["template"]["spec"]["containers"]
    listening = {port["name"]: port["containerPort"] for port in container["ports"]}
    port = getattr(found, f"{container['name']}_port")
    if listening["metrics"] != getattr(found, f"{container['name']}_metrics_port"):
        problems.append(f"{service}: its metrics are not where its pod says")
    if listening["grpc"] != port:
        problems.append(f"{service} listens on {port}, its pod says {listening['grpc']}")
    return problems


def _late_references(objects: Sequence[Object]) -> list[tuple[Object, str]]:
    """$(NAME) in an env value is expanded only if NAME stands before it."""
    late = []
    for workload in of_kind(objects, *WORKLOADS):
        for container in containers(workload):
            for text in environment(objects, container).values():
                late += [(workload, name) for name in re.findall(r"\$\((\w+)\)", text)]
    return late


PodCheck = Callable[[Sequence[Object]], list[str]]
POD_CHECKS: Sequence[PodCheck] = (settings, probes, drains, restricted, images, resources, redis_memory, availability)
