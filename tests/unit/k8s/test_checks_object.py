"""The checks can fail: each is shown the front door's manifests with one thing spoiled, and must object to that very thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support.k8s import pods, references
from tests.support.k8s.manifests import K8S, KUBECTL, Object, build, named
from tests.support.k8s.schema import VERSIONS, schema

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: nothing else builds kustomizations")

Check = Callable[[Sequence[Object]], list[str]]
Spoil = Callable[[list[Object]], Any]


def pod(objects: Sequence[Object], name: str, kind: str = "Deployment") -> Any:
    return named(objects, kind, name)["spec"]["template"]["spec"]


def first(objects: Sequence[Object], name: str, kind: str = "Deployment") -> Any:
    return pod(objects, name, kind)["containers"][0]


def config(objects: Sequence[Object], name: str) -> Any:
    return named(objects, "ConfigMap", name)["data"]


def peer(policy: Object) -> Any:
    return policy["spec"]["ingress"][0]["from"][0]["podSelector"]


def scaler(name: str, target: str) -> Object:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    return {"kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": {"scaleTargetRef": reference}}


SPOILED: dict[str, tuple[Check, Spoil, str]] = {
    "a service selects nothing": (
        references.selectors,
        lambda o: named(o, "Service", "encoder")["spec"].update(selector={"app": "encoder"}),
        "Service/encoder selects no pod",
    ),
    "labels that the selector does not know": (
        references.selectors,
        lambda o: named(o, "Deployment", "gateway")["spec"]["template"]["metadata"]["labels"].clear(),
        "Deployment/gateway does not select its own pods",
    ),
    "slots that select each other": (
        references.selectors,
        lambda o: named(o, "Deployment", "tgi-blue")["spec"]["selector"]["matchLabels"].pop("langptune.dev/slot"),
        "Deployment/tgi-blue selects pods of Deployment/tgi-green",
    ),
    "spread by a label of nobody": (
        references.selectors,
        lambda o: pod(o, "gateway")["topologySpreadConstraints"][0].update(labelSelector={"matchLabels": {"a": "b"}}),
        "topologySpreadConstraints",
    ),
    "a budget for nothing": (
        references.selectors,
        lambda o: named(o, "PodDisruptionBudget", "redis")["spec"]["selector"]["matchLabels"].update(a="b"),
        "PodDisruptionBudget/redis",
    ),
    "a policy for nothing": (
        references.selectors,
        lambda o: peer(named(o, "NetworkPolicy", "redis")).update(matchLabels={"a": "b"}),
        "NetworkPolicy/redis selects no pod",
    ),
    "a scaler of nothing": (references.targets, lambda o: o.append(scaler("web", "web")), "scales web, which is not there"),
    "a scaler against replicas": (references.targets, lambda o: o.append(scaler("g", "gateway")), "has replicas, and so has"),
    "two scalers": (
        references.targets,
        lambda o: [o.append(scaler("g", "gateway")) for _ in range(2)],
        "gateway is scaled by 2",
    ),
    "a port by a name that is gone": (
        references.ports,
        lambda o: first(o, "decoder")["ports"][0].update(name="rpc"),
        "Service/decoder: Deployment/decoder has no port grpc",
    ),
    "a probe of a closed port": (
        references.ports,
        lambda o: first(o, "trainer")["livenessProbe"]["grpc"].update(port=1),
        "livenessProbe asks port 1",
    ),
    "a policy for a closed port": (
        references.ports,
        lambda o: named(o, "NetworkPolicy", "encoder")["spec"]["egress"][0]["ports"][0].update(port=80),
        "NetworkPolicy/encoder lets out to {80}",
    ),
    "no such ConfigMap": (
        references.references,
        lambda o: first(o, "gateway")["envFrom"][0]["configMapRef"].update(name="commons"),
        "ConfigMap commons, which is not there",
    ),
    "no such key": (
        references.references,
        lambda o: first(o, "gateway")["env"][0]["valueFrom"]["secretKeyRef"].update(key="password"),
        "needs password of Secret langptune-logs, which has none",
    ),
    "no such account": (
        references.references,
        lambda o: pod(o, "encoder").update(serviceAccountName="enc"),
        "ServiceAccount enc",
    ),
    "no such claim": (
        references.references,
        lambda o: o.remove(named(o, "PersistentVolumeClaim", "shared")),
        "PersistentVolumeClaim shared",
    ),
    "no such volume": (
        references.references,
        lambda o: first(o, "decoder")["volumeMounts"][0].update(name="temp"),
        "mounts temp, which is no volume",
    ),
    "no such priority": (
        references.references,
        lambda o: pod(o, "gateway").update(priorityClassName="high"),
        "PriorityClass high",
    ),
    "rights on a slot that is not there": (
        references.references,
        lambda o: named(o, "Role", "tgi-slots")["rules"][0].update(resourceNames=["tgi"]),
        "Role/tgi-slots needs Deployment tgi",
    ),
    "another namespace": (
        references.namespaces,
        lambda o: named(o, "Service", "redis")["metadata"].update(namespace="default"),
        "Service/redis is not in",
    ),
    "the same twice": (references.namespaces, lambda o: o.append(named(o, "Service", "redis")), "Service/redis is there twice"),
    "a setting that nobody reads": (
        pods.settings,
        lambda o: config(o, "encoder-config").update(LANGPTUNE_ENCODER_ENGINES="tgi"),
        "LANGPTUNE_ENCODER_ENGINES, which is no setting",
    ),
    "a value that is refused": (
        pods.settings,
        lambda o: config(o, "encoder-config").update(LANGPTUNE_ENCODER_ENGINE="vllm"),
        "encoder: encoder_engine",
    ),
    "an address of nobody": (
        pods.settings,
        lambda o: config(o, "peers").update(LANGPTUNE_DECODER_ADDRESS="decoder:50052"),
        "decoder_address is decoder:50052, where no Service is",
    ),
    "a slot of nobody": (
        pods.settings,
        lambda o: config(o, "encoder-config").update(LANGPTUNE_ENCODER_TGI_URLS="http://tgi:8080"),
        "http://tgi:8080",
    ),
    "a port that is not the process's": (
        pods.settings,
        lambda o: config(o, "gateway-config").update(LANGPTUNE_GATEWAY_PORT="50061"),
        "gateway listens on 50061, its pod says 50051",
    ),
    "a variable before what it is made of": (
        pods.settings,
        lambda o: first(o, "trainer")["env"].reverse(),
        "comes too late",
    ),
    "no startup probe": (pods.probes, lambda o: first(o, "decoder").pop("startupProbe"), "decoder has no startupProbe"),
    "liveness of somebody else": (
        pods.probes,
        lambda o: first(o, "encoder").update(livenessProbe={"httpGet": {"host": "tgi-blue", "path": "/", "port": 80}}),
        "liveness asks another host",
    ),
    "an impatient liveness": (
        pods.probes,
        lambda o: first(o, "encoder")["livenessProbe"].update(periodSeconds=5),
        "gives up within a minute",
    ),
    "less grace than calls get": (
        pods.drains,
        lambda o: config(o, "decoder-config").update(LANGPTUNE_SHUTDOWN_GRACE="60"),
        "Deployment/decoder is given 35 s and needs 75",
    ),
    "less grace than a text takes": (
        pods.drains,
        lambda o: config(o, "encoder-config").update(LANGPTUNE_ENCODER_TGI_TIMEOUT="200"),
        "Deployment/tgi-green is given 140 s and needs 220",
    ),
    "a longer pause": (
        pods.drains,
        lambda o: first(o, "gateway")["lifecycle"]["preStop"]["sleep"].update(seconds=30),
        "Deployment/gateway is given 55 s and needs 80",
    ),
    "root": (pods.restricted, lambda o: pod(o, "redis", "StatefulSet")["securityContext"].update(runAsUser=0), "runs as root"),
    "a writable root": (
        pods.restricted,
        lambda o: first(o, "tgi-blue")["securityContext"].pop("readOnlyRootFilesystem"),
        "tgi may write its root",
    ),
    "a capability": (
        pods.restricted,
        lambda o: first(o, "gateway")["securityContext"]["capabilities"].update(add=["SYS_PTRACE"]),
        "gateway has capabilities",
    ),
    "a token": (pods.restricted, lambda o: pod(o, "gateway").update(automountServiceAccountToken=True), "has a token"),
    "a lax namespace": (
        pods.restricted,
        lambda o: named(o, "Namespace", "langptune")["metadata"]["labels"].clear(),
        "namespaces enforce",
    ),
    "latest": (pods.images, lambda o: first(o, "qdrant", "StatefulSet").update(image="qdrant/qdrant:latest"), "can change"),
    "no tag": (pods.images, lambda o: first(o, "gateway").update(image="registry:5000/langptune/gateway"), "can change"),
    "no limit": (pods.resources, lambda o: first(o, "encoder")["resources"].pop("limits"), "encoder lacks"),
    "an endless folder": (
        pods.resources,
        lambda o: [each["emptyDir"].clear() for each in pod(o, "encoder")["volumes"] if "emptyDir" in each],
        "may fill the node's disk",
    ),
    "more data than memory": (
        pods.redis_memory,
        lambda o: first(o, "redis", "StatefulSet")["env"][0].update(value="2gb"),
        "StatefulSet/redis keeps",
    ),
    "a budget that forbids to drain": (
        pods.availability,
        lambda o: named(o, "PodDisruptionBudget", "decoder")["spec"].update(maxUnavailable=0),
        "could be drained",
    ),
    "pods on one node": (
        pods.availability,
        lambda o: (
            named(o, "Deployment", "gateway")["spec"].update(replicas=3),
            pod(o, "gateway").pop("topologySpreadConstraints"),
        ),
        "nothing spreads them",
    ),
    "two decoders": (
        pods.availability,
        lambda o: named(o, "Deployment", "decoder")["spec"].update(replicas=2),
        "Deployment/decoder must be one pod",
    ),
    "two versions in a slot": (
        pods.availability,
        lambda o: named(o, "Deployment", "tgi-green")["spec"]["strategy"].update(type="RollingUpdate"),
        "an update would make it two pods",
    ),
    "a slot that is reset by applying": (
        pods.availability,
        lambda o: named(o, "Deployment", "tgi-green")["spec"].update(replicas=0),
        "would undo what the trainer has set",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_check_objects(what: str) -> None:
    check, spoil, words = SPOILED[what]
    objects = build(K8S)
    assert check(objects) == []
    spoil(objects)
    assert words in "\n".join(check(objects))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_object(version: str) -> None:
    """To a misspelt field, to a value of the wrong type, and to a kind that Kubernetes does not have."""
    objects = build(K8S)
    first(objects, "gateway")["imagePullPolice"] = "Always"
    named(objects, "Service", "redis")["spec"]["ports"][0]["port"] = "6379"
    named(objects, "PodDisruptionBudget", "redis")["apiVersion"] = "policy/v1beta1"
    objects.append({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "x"}})
    problems = "\n".join(schema(objects, version))
    assert "imagePullPolice" in problems
    assert "Service/redis: spec.ports.0.port" in problems
    assert "policy/v1beta1/PodDisruptionBudget is no kind" in problems
    assert "keda.sh/v1alpha1/ScaledObject is no kind" in problems
