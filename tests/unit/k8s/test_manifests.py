"""Every combination of manifests that the documentation names: it builds, and no check of `tests/support/k8s` objects.

Nothing here needs a cluster, and nothing here proves what only a cluster can: that images start, that volumes bind.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

import pytest

from services.gateway.refresh.scripts import STREAM
from tests.support.k8s.checks import CHECKS
from tests.support.k8s.manifests import K8S, KUBECTL, build, combine, of_kind
from tests.support.k8s.pods import resolved
from tests.support.k8s.references import example_secrets
from tests.support.k8s.schema import CUSTOM, VERSIONS, schema

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: nothing else builds kustomizations")

FOLDERS = (".", "overlays/dev", "overlays/production")
ON_TOP = (  # what the READMEs say may be combined: below, and the components on it
    ("base", "gpu-tgi"),
    ("base", "gpu-tgi", "gpu-training"),
    (".", "autoscaling"),
    (".", "autoscaling", "autoscaling/queue-depth"),
    (".", "ingress"),
    (".", "monitoring"),
    (".", "object-store"),
    (".", "tls"),
    (".", "tracing"),
    (".", "external-qdrant"),
    (".", "external-redis"),
    (".", "multi-node-training"),
    ("overlays/dev", "monitoring", "tracing"),
    ("overlays/production", "external-redis", "external-qdrant", "monitoring", "tracing", "object-store", "multi-node-training"),
)
GOOD: dict[str, list[str]] = {check.__name__: [] for check in CHECKS}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_published_schemas_know_every_field(folder: str, version: str) -> None:
    assert schema(build(K8S / folder), version) == []


@pytest.mark.parametrize("combination", ON_TOP, ids="+".join)
def test_components_on_top(combination: tuple[str, ...], tmp_path: Path) -> None:
    below, *components = combination
    objects = build(combine(tmp_path, below, components))
    assert {check.__name__: check(objects) for check in CHECKS} == GOOD
    custom = frozenset[str]().union(*(CUSTOM.get(component, frozenset()) for component in components))
    assert [problem for version in VERSIONS for problem in schema(objects, version, custom)] == []


def test_gateways_are_scaled_by_the_queue_that_they_read(tmp_path: Path) -> None:
    objects = build(combine(tmp_path, ".", ("autoscaling", "autoscaling/queue-depth")))
    (scaler,) = of_kind(objects, "ScaledObject")
    assert [trigger["metadata"].get("stream") for trigger in scaler["spec"]["triggers"]] == [None, STREAM]
    assert [each["metadata"]["name"] for each in of_kind(objects, "HorizontalPodAutoscaler")] == ["encoder"]


def test_every_component_has_a_readme_and_is_combined_with_something() -> None:
    there = {path.parent.name for path in K8S.glob("components/*/kustomization.yaml")}
    assert {path.parent.name for path in K8S.glob("components/*/README.md")} == there
    assert {component for _, *components in ON_TOP for component in components} | {"network-policies"} >= there


def test_the_front_door_is_the_system_of_the_card_at_its_smallest() -> None:
    """TGI on one GPU a slot, the paper's two models, servers of Qdrant and Redis; no Secret inside, no custom resource."""
    objects = build(K8S)
    encoder, decoder = resolved(objects, "encoder"), resolved(objects, "decoder")
    assert (encoder.encoder_engine, encoder.profile_model) == ("tgi", "google/gemma-2b-it")
    assert (decoder.embedding_model, decoder.qdrant_url) == ("mixedbread-ai/mxbai-embed-large-v1", "http://qdrant:6333")
    gpus = {
        each["metadata"]["name"]: container["resources"]["limits"].get("nvidia.com/gpu")
        for each in of_kind(objects, "Deployment", "StatefulSet")
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    assert {name for name, count in gpus.items() if count == 1} == {"tgi-blue", "tgi-green", "rollouts"}
    assert {name for name, count in gpus.items() if not count} == {"gateway", "encoder", "decoder", "trainer", "redis", "qdrant"}
    assert of_kind(objects, "Secret", "CustomResourceDefinition") == []


def test_a_slot_starts_with_the_model_that_the_encoder_knows() -> None:
    """What a slot serves before the first publish is the base version; afterwards MODEL_ID is the trainer's."""
    objects = build(K8S)
    (config,) = [each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"].startswith("tgi-config")]
    assert config["data"]["MODEL_ID"] == resolved(objects, "encoder").profile_model
    for slot in ("tgi-blue", "tgi-green"):
        (deployment,) = [each for each in of_kind(objects, "Deployment") if each["metadata"]["name"] == slot]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert "MODEL_ID" not in {variable["name"] for variable in container["env"]}
        assert not [argument for argument in container["args"] if argument.startswith("--model-id")]


def test_workers_are_told_where_their_environment_is() -> None:
    """The names with their hashes, and the trainer's own image."""
    objects = build(K8S)
    (trainer,) = [each for each in of_kind(objects, "Deployment") if each["metadata"]["name"] == "trainer"]
    (container,) = trainer["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert told["LANGPTUNE_WORKER_IMAGE"] == container["image"]
    names = [told[name] for name in re.findall(r"\$\((\w+)\)", str(told["LANGPTUNE_WORKER_CONFIG_MAPS"]))]
    assert names == [source["configMapRef"]["name"] for source in container["envFrom"]]


def test_the_example_secrets_are_refused_as_they_are() -> None:
    """The API server decodes `data`; none of it is base64."""
    secrets = example_secrets()
    assert {secret["metadata"]["name"] for secret in secrets} >= {
        "langptune-redis",
        "langptune-qdrant",
        "langptune-hub",
        "langptune-tokens",
    }
    for secret in secrets:
        assert "stringData" not in secret
        for text in secret["data"].values():
            with pytest.raises(binascii.Error):
                base64.b64decode(text, validate=True)


def test_dev_needs_no_gpu_no_secret_and_little() -> None:
    objects = build(K8S / "overlays/dev")
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        spec = workload["spec"]["template"]["spec"]
        assert not {"nodeSelector", "tolerations"} & set(spec)
        for container in spec["containers"]:
            assert set(container["resources"]["limits"]) == {"memory"}
    made = {each["metadata"]["name"].rpartition("-")[0] for each in of_kind(objects, "Secret")}
    assert made == {secret["metadata"]["name"] for secret in example_secrets() if secret["metadata"]["name"] in made}
    assert made == {"langptune-redis", "langptune-qdrant", "langptune-hub", "langptune-tokens"}
