"""The weights store on an S3 server: what a bucket holds is a version, verified on its way to the disk, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from langptune.errors import FailedPrecondition, NotFound
from langptune.weights import Golden, Manifest, WeightsStore
from tests.support.s3 import running_s3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with running_s3("weights") as uri:
        yield uri


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights" * 1_000)
    return folder


def _add(store: WeightsStore, model: Path) -> Manifest:
    golden = Golden((1,), (2, 3), -1.5)
    return store.add(model, Manifest(version="job-a", kind="encoder", base_model="base", job_id="a", golden=golden))


def test_a_version_comes_back_whole_and_is_seen_by_others(bucket: str, model: Path, tmp_path: Path) -> None:
    uri = f"{bucket}/{tmp_path.name}"
    writer, reader = WeightsStore(uri, tmp_path / "one"), WeightsStore(uri, tmp_path / "two")
    assert reader.versions("encoder") == []
    added = _add(writer, model)
    assert reader.versions("encoder") == [added.version]
    folder = Path(reader.local_path("encoder", added.version))
    assert folder.is_relative_to(tmp_path / "two")
    assert (folder / "model.safetensors").read_bytes() == b"weights" * 1_000
    assert (folder / "1_Pooling" / "config.json").read_text() == "{}"
    assert reader.deployed_digest("encoder", added.version) == added.digest
    assert _add(writer, model).version == added.version
    reader.remove("encoder", added.version)
    with pytest.raises(NotFound):
        writer.manifest("encoder", added.version)
    assert not folder.exists()


def test_an_object_that_was_changed_is_refused(bucket: str, model: Path, tmp_path: Path) -> None:
    uri = f"{bucket}/{tmp_path.name}"
    version = _add(WeightsStore(uri, tmp_path / "one"), model).version
    fsspec.filesystem("s3").pipe_file(f"{uri}/encoder/{version}/model.safetensors", b"tampered")
    with pytest.raises(FailedPrecondition, match=r"model\.safetensors is missing or not the file that was published"):
        WeightsStore(uri, tmp_path / "two").local_path("encoder", version)


def test_a_version_without_its_manifest_is_none(bucket: str, model: Path, tmp_path: Path) -> None:
    uri = f"{bucket}/{tmp_path.name}"
    store = WeightsStore(uri, tmp_path / "one")
    version = _add(store, model).version
    fsspec.filesystem("s3").rm_file(f"{uri}/encoder/{version}/manifest.json")
    assert store.versions("encoder") == []
    assert _add(store, model).version == version


def test_a_base_version_is_registered_in_the_bucket(bucket: str, model: Path, tmp_path: Path) -> None:
    store = WeightsStore(f"{bucket}/{tmp_path.name}", tmp_path / "cache")
    base = store.ensure_base("decoder", str(model))
    assert store.local_path("decoder", base.version) == str(model)
