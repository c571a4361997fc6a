"""What the trainer makes fits the manifests: a job's pod finds all that it names."""

from __future__ import annotations

from typing import Any

import pytest

from services.trainer.jobs.kubernetes_job import render_job
from tests.support.k8s.manifests import K8S, KUBECTL, Object, build, environment, named
from tests.support.k8s.pods import images, resolved
from tests.support.k8s.references import MADE_BY_THE_TRAINER, references, selectors
from tests.support.k8s.schema import VERSIONS, schema

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: nothing else builds kustomizations")


def job(objects: list[Object]) -> Object:
    """A job of two processes, as the trainer of the front door renders it."""
    trainer = resolved(objects, "trainer")
    rendered: Any = render_job("books", 1, 2, trainer.model_copy(update={"kubernetes_namespace": "langptune"}))
    return dict(rendered)


def test_a_job_finds_what_it_names() -> None:
    """ConfigMaps, Secrets, account, volume, priority, image; and the policies know its pods."""
    objects = build(K8S)
    rendered = job(objects)
    objects.append(rendered)
    assert [problem for check in (references, images, selectors) for problem in check(objects)] == []
    assert [problem for version in VERSIONS for problem in schema([rendered], version)] == []
    labels = rendered["spec"]["template"]["metadata"]["labels"]
    assert MADE_BY_THE_TRAINER.items() <= labels.items()


def test_a_job_runs_with_the_trainers_settings_where_the_trainer_keeps_its_files() -> None:
    objects = build(K8S)
    (worker,) = job(objects)["spec"]["template"]["spec"]["containers"]
    (trainer,) = named(objects, "Deployment", "trainer")["spec"]["template"]["spec"]["containers"]
    told = environment(objects, worker)
    assert told.items() >= environment(objects, {**trainer, "env": []}).items()
    mounts = [mount["mountPath"] for mount in worker["volumeMounts"]]
    for setting in ("LANGPTUNE_JOBS_FOLDER", "LANGPTUNE_WEIGHTS_URI", "LANGPTUNE_WEIGHTS_CACHE", "HF_HOME"):
        assert any(told[setting].startswith(f"{mount}/") for mount in mounts), setting
