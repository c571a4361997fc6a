"""What CreateTrainingJob refuses: each refusal names the field, and no job is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from langptune.v1 import trainer_pb2 as pb
from samples.dataset import make_dataset
from tests.integration.trainer.world import Client, World


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"preset": "best"}, "spec.preset"),
        ({"overrides": {"rlso.eta": "-1"}}, "spec.overrides[rlso.eta]"),
        ({"overrides": {"rlso.eta": "nan"}}, "spec.overrides[rlso.eta]"),
        ({"overrides": {"rlso.speed": "1"}}, "spec.overrides[rlso.speed]"),
        ({"overrides": {"rlso.batches": "1"}}, "spec.overrides[rlso.batches]"),
        ({"cl_batches": -1}, "spec.cl_batches"),
        ({"seed": 2**40}, "spec.seed"),
        ({"validation_users": -1}, "spec.validation_users"),
        ({"profile_source": pb.PROFILE_SOURCE_HISTORY}, "spec.profile_source"),
        ({"processes": 3}, "spec.processes"),
        ({"overrides": {"rlso.trainable": "last_k", "rlso.last_k": "9"}}, "spec.overrides[rlso.last_k]"),
        ({"overrides": {"rlso.trainable": "lora", "rlso.lora_rank": "97"}}, "spec.overrides[rlso.lora_rank]"),
        ({"overrides": {"rlso.histories": "25"}}, "spec.overrides[rlso.histories]"),
        ({"parent_release_id": "no spaces"}, "spec.parent_release_id"),
        ({"dataset_uri": ""}, "spec.dataset_uri"),
        ({"dataset_uri": "s3://bucket/data"}, "spec.dataset_uri"),
    ],
)
async def test_a_bad_spec_is_refused_by_its_field(world: World, client: Client, values: dict[str, Any], field: str) -> None:
    spec = world.spec(**{name: value for name, value in values.items() if name != "dataset_uri"})
    spec.dataset_uri = values.get("dataset_uri", spec.dataset_uri)
    with pytest.raises(InvalidArgument) as refused:
        await client.create(spec, "bad")
    assert refused.value.field == field
    with pytest.raises(NotFound):
        await client.get("bad")


@pytest.mark.parametrize("job_id", ["..", "a b", "x" * 65])
async def test_a_bad_job_id_is_refused(world: World, client: Client, job_id: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await client.create(world.spec(), job_id)
    assert refused.value.field == "job_id"


async def test_an_unknown_parent_is_not_found(world: World, client: Client) -> None:
    with pytest.raises(NotFound, match="r999"):
        await client.create(world.spec(parent_release_id="r999"))


async def test_a_folder_without_a_data_set_is_refused(world: World, client: Client, tmp_path: Path) -> None:
    spec = world.spec()
    spec.dataset_uri = str(tmp_path / "nothing")
    with pytest.raises(FailedPrecondition, match="not a prepared data set"):
        await client.create(spec)


async def test_a_data_set_that_was_not_imported_is_refused(world: World, client: Client, tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", items=90, users=40)  # 30 films that the decoder does not have
    known = set(world.dataset.items)
    targets = {target for split in ("train", "validation") for row in data.sessions(split) for target in row.target_item_ids}
    spec = world.spec()
    spec.dataset_uri = f"file://{data.folder}"
    with pytest.raises(FailedPrecondition) as refused:
        await client.create(spec)
    assert refused.value.reason == "ITEMS_NOT_IN_CATALOGUE"
    assert refused.value.metadata["missing"] == str(len(targets - known))


@pytest.mark.parametrize("method", ["jobs.ListTrainingJobs", "releases.ListReleases"])
async def test_bad_pages_are_refused(client: Client, method: str) -> None:
    service, name = method.split(".")
    call = getattr(getattr(client, service), name)
    request = {"ListTrainingJobs": pb.ListTrainingJobsRequest, "ListReleases": pb.ListReleasesRequest}[name]
    for field, value in (("page_size", 101), ("page_size", -1), ("page_token", "elsewhere")):
        with pytest.raises(InvalidArgument) as refused:
            await call(request(**{field: value}))
        assert refused.value.field == field


async def test_watching_a_job_that_is_not_there(client: Client) -> None:
    with pytest.raises(NotFound):
        await client.watch("nobody")
    with pytest.raises(NotFound):
        await client.cancel("nobody")


async def test_a_plan_makes_no_job(world: World, client: Client) -> None:
    spec = world.spec(processes=2, overrides={"rlso.trainable": "last_k", "rlso.last_k": "1"})
    answer = await client.jobs.CreateTrainingJob(pb.CreateTrainingJobRequest(spec=spec, job_id="planned", validate_only=True))
    assert (answer.job.job_id, answer.job.steps_total, answer.job.resolved["distributed.processes"]) == ("", 5, "2")
    assert (answer.plan.cl_updates, answer.plan.rlso_updates) == (3, 2)
    assert 0 < answer.plan.encoder_trainable_parameters < answer.plan.encoder_parameters
    assert [stage.zero_stage for stage in answer.plan.memory] == [0, 1, 2, 3]
    with pytest.raises(NotFound):
        await client.get("planned")
