"""Checks that what one object says of another is so: selectors and labels, ports, names of everything that is referred to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tests.support.k8s.manifests import K8S, WORKLOADS, Object, containers, label, of_kind, pod_template, selected

MADE_BY_THE_TRAINER = {"app.kubernetes.io/component": "trainer-worker"}  # labels of pods that stand in no manifest
FOR_OTHERS = ("langptune-prometheus-", "langptune-dashboards-")  # ConfigMaps that Prometheus and Grafana read


def selectors(objects: Sequence[Object]) -> list[str]:
    """Every selector takes the pods that it is meant for."""
    problems = []
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        if workload not in selected([workload], workload["spec"]["selector"]):
            problems.append(f"{label(workload)} does not select its own pods")
        others = [each for each in selected(objects, workload["spec"]["selector"]) if each is not workload]
        problems += [f"{label(workload)} selects pods of {label(other)}" for other in others]
        for where, selector in _placing(workload):
            if workload not in selected([workload], selector):
                problems.append(f"{label(workload)}: {where} does not select its own pods")
    for service in of_kind(objects, "Service"):
        if service["spec"].get("type") != "ExternalName" and not selected(objects, {"matchLabels": service["spec"]["selector"]}):
            problems.append(f"{label(service)} selects no pod")
    for budget in of_kind(objects, "PodDisruptionBudget"):
        if len(selected(objects, budget["spec"]["selector"])) != 1:
            problems.append(f"{label(budget)} selects not one workload's pods")
    for policy in of_kind(objects, "NetworkPolicy"):
        for selector in _policy_selectors(policy):
            if not selected(objects, selector) and selector.get("matchLabels") != MADE_BY_THE_TRAINER:
                problems.append(f"{label(policy)} selects no pod: {selector}")
    return problems


def targets(objects: Sequence[Object]) -> list[str]:
    """What scales names a workload that is there, whose replicas nobody else sets; one workload, one that scales it."""
    problems = []
    scaled = Counter()  # type: Counter[str]
    for scaler in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        found = [
            each
            for each in objects
            if each["kind"] == target.get("kind", "Deployment") and each["metadata"]["name"] == target["name"]
        ]
        problems += [] if found else [f"{label(scaler)} scales {target['name']}, which is not there"]
        problems += [f"{label(each)} has replicas, and so has {label(scaler)}" for each in found if "replicas" in each["spec"]]
        scaled[target["name"]] += 1
    return problems + [f"{name} is scaled by {times}" for name, times in scaled.items() if times > 1]


def ports(objects: Sequence[Object]) -> list[str]:
    """Ports that services, probes, policies and ingresses name are container ports of the pods that they mean."""
    problems = []
    for service in of_kind(objects, "Service"):
        for workload in selected(objects, {"matchLabels": service["spec"].get("selector", {"": ""})}):
            for port in service["spec"]["ports"]:
                if port.get("targetPort", port["port"]) not in _ports(workload):
                    problems.append(f"{label(service)}: {label(workload)} has no port {port.get('targetPort', port['port'])}")
    for workload in of_kind(objects, *WORKLOADS):
        for container in containers(workload):
            for probe, port in _probe_ports(container):
                if port not in _ports(workload):
                    problems.append(f"{label(workload)}: {probe} asks port {port}, which is not there")
    for policy in of_kind(objects, "NetworkPolicy"):
        problems += _policy_ports(objects, policy)
    for monitor in of_kind(objects, "PodMonitor"):
        for workload in selected(objects, monitor["spec"]["selector"]):
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                if endpoint["port"] not in _ports(workload):
                    problems.append(f"{label(monitor)}: {label(workload)} has no port {endpoint['port']}")
    for ingress in of_kind(objects, "Ingress"):
        for backend in _backends(ingress):
            found = [each for each in of_kind(objects, "Service") if each["metadata"]["name"] == backend["name"]]
            offered = {value for each in found for port in each["spec"]["ports"] for value in (port["name"], port["port"])}
            if backend["port"].get("name", backend["port"].get("number")) not in offered:
                problems.append(f"{label(ingress)}: no Service {backend['name']} with port {backend['port']}")
    return problems


def references(objects: Sequence[Object]) -> list[str]:
    """Everything that is referred to by name exists, and every ConfigMap is used."""
    names: dict[str, set[str]] = {}
    for each in objects:
        names.setdefault(each["kind"], set()).add(each["metadata"]["name"])
    secrets = {
        secret["metadata"]["name"]: set(secret.get("data", {})) for secret in (*example_secrets(), *of_kind(objects, "Secret"))
    }
    configs = {each["metadata"]["name"]: set(each.get("data", {})) for each in of_kind(objects, "ConfigMap")}
    problems, used = [], set()
    for who, kind, name, key in _all_references(objects):
        if kind in ("ConfigMap", "Secret"):
            known = configs if kind == "ConfigMap" else secrets
            used.add((kind, name))
            if name not in known:
                problems.append(f"{who} needs {kind} {name}, which is not there")
            elif key and key not in known[name]:
                problems.append(f"{who} needs {key} of {kind} {name}, which has none")
        elif name not in names.get(kind, set()):
            problems.append(f"{who} needs {kind} {name}, which is not there")
    problems += [
        f"ConfigMap {name} is used by nothing"
        for name in configs
        if ("ConfigMap", name) not in used and not name.startswith(FOR_OTHERS)
    ]
    return problems + _volumes(objects)


def namespaces(objects: Sequence[Object]) -> list[str]:
    """Everything is in the one namespace that is made here, and no two objects have one name."""
    made = [each["metadata"]["name"] for each in of_kind(objects, "Namespace")]
    problems = [] if len(made) == 1 else [f"namespaces: {made}"]
    clusterwide = ("Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding")
    problems += [
        f"{label(each)} is not in {made}"
        for each in objects
        if each["kind"] not in clusterwide and each["metadata"].get("namespace") not in made
    ]
    twice = Counter((each["kind"], each["metadata"]["name"]) for each in objects)
    return problems + [f"{kind}/{name} is there twice" for (kind, name), times in twice.items() if times > 1]


def example_secrets() -> list[Object]:
    """The Secrets that an operator makes, as the example has them."""
    return [each for path in sorted(K8S.rglob("secrets.example.yaml")) for each in yaml.safe_load_all(path.read_text())]


def _placing(workload: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    spec = pod_template(workload)["spec"]
    for each in spec.get("topologySpreadConstraints", ()):
        yield "topologySpreadConstraints", each["labelSelector"]
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = spec.get("affinity", {}).get(kind, {})
        for term in rules.get("requiredDuringSchedulingIgnoredDuringExecution", ()):
            yield kind, term["labelSelector"]


def _policy_selectors(policy: Object) -> Iterator[Mapping[str, Any]]:
    yield policy["spec"]["podSelector"]
    for way, side in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(way, ()):
            for peer in rule.get(side, ()):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield peer["podSelector"]


def _policy_ports(objects: Sequence[Object], policy: Object) -> list[str]:
    """A port that is let in must be one of the selected pods', one that is let out one of the peers'."""
    problems = []
    chosen = selected(objects, policy["spec"]["podSelector"])
    for rule in policy["spec"].get("ingress", ()):
        offered = {port for workload in chosen for port in _ports(workload)}
        wrong = {port["port"] for port in rule.get("ports", ())} - offered
        problems += [f"{label(policy)} lets in to {wrong}, where nothing listens"] if wrong else []
    for rule in policy["spec"].get("egress", ()):
        peers = [peer["podSelector"] for peer in rule["to"] if "podSelector" in peer]
        offered = {port for peer in peers for workload in selected(objects, peer) for port in _ports(workload)}
        wrong = {port["port"] for port in rule.get("ports", ())} - offered if peers else set()
        problems += [f"{label(policy)} lets out to {wrong}, where nothing listens"] if wrong else []
    return problems


def _ports(workload: Object) -> set[int | str]:
    return {
        value
        for container in containers(workload)
        for port in container.get("ports", ())
        for value in (port["containerPort"], port.get("name", port["containerPort"]))
    }


def _probe_ports(container: Object) -> Iterator[tuple[str, int | str]]:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for action in ("httpGet", "grpc", "tcpSocket"):
            if action in container.get(probe, {}):
                yield probe, container[probe][action]["port"]


def _backends(ingress: Object) -> Iterator[Mapping[str, Any]]:
    for rule in ingress["spec"].get("rules", ()):
        for path in rule["http"]["paths"]:
            yield path["backend"]["service"]


def _all_references(objects: Sequence[Object]) -> Iterator[tuple[str, str, str, str]]:
    """(who, kind, name, key or "")."""
    for workload in of_kind(objects, *WORKLOADS):
        yield from _pod_references(label(workload), pod_template(workload)["spec"])
        for container in containers(workload):
            yield from _container_references(label(workload), container)
        if workload["kind"] == "StatefulSet":
            yield label(workload), "Service", workload["spec"]["serviceName"], ""
    for binding in of_kind(objects, "RoleBinding"):
        yield label(binding), binding["roleRef"]["kind"], binding["roleRef"]["name"], ""
        for subject in binding["subjects"]:
            yield label(binding), subject["kind"], subject["name"], ""
    for role in of_kind(objects, "Role"):
        for rule in role["rules"]:
            if "deployments" in rule["resources"]:
                yield from ((label(role), "Deployment", name, "") for name in rule["resourceNames"])
    for ingress in of_kind(objects, "Ingress"):
        yield from ((label(ingress), "Secret", tls["secretName"], "") for tls in ingress["spec"].get("tls", ()))
    for keys in of_kind(objects, "TriggerAuthentication"):
        yield from ((label(keys), "Secret", each["name"], each["key"]) for each in keys["spec"]["secretTargetRef"])
    for monitor in of_kind(objects, "PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            if key := endpoint.get("authorization", {}).get("credentials"):
                yield label(monitor), "Secret", key["name"], key["key"]


def _pod_references(who: str, spec: Object) -> Iterator[tuple[str, str, str, str]]:
    yield who, "ServiceAccount", spec["serviceAccountName"], ""
    yield who, "PriorityClass", spec["priorityClassName"], ""
    for volume in spec.get("volumes", ()):
        if "persistentVolumeClaim" in volume:
            yield who, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], ""
        if "configMap" in volume:
            yield who, "ConfigMap", volume["configMap"]["name"], ""
        if "secret" in volume:
            keys = [item["key"] for item in volume["secret"].get("items", ())] or [""]
            yield from ((who, "Secret", volume["secret"]["secretName"], key) for key in keys)


def _container_references(who: str, container: Object) -> Iterator[tuple[str, str, str, str]]:
    for source in container.get("envFrom", ()):
        for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if field in source:
                yield who, kind, source[field]["name"], ""
    for variable in container.get("env", ()):
        for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            if field in variable.get("valueFrom", {}):
                reference = variable["valueFrom"][field]
                yield who, kind, reference["name"], reference["key"]


def _volumes(objects: Sequence[Object]) -> list[str]:
    problems = []
    for workload in of_kind(objects, *WORKLOADS):
        there = {volume["name"] for volume in pod_template(workload)["spec"].get("volumes", ())}
        there |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        mounted = {mount["name"] for container in containers(workload) for mount in container.get("volumeMounts", ())}
        problems += [f"{label(workload)} mounts {name}, which is no volume of it" for name in sorted(mounted - there)]
        problems += [f"{label(workload)} mounts volume {name} nowhere" for name in sorted(there - mounted)]
    return problems
