"""The weights store through its public door: immutable, verified, complete or absent."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from langptune.weights import Golden, Manifest, WeightsStore


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling": "cls"}')
    return folder


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> WeightsStore:
    uri = str(tmp_path / "weights") if request.param == "file" else f"memory://{tmp_path.name}/weights"
    return WeightsStore(uri, tmp_path / "cache")


def _added(store: WeightsStore, model: Path, job: str = "job1") -> Manifest:
    return store.add(model, Manifest(version=job, kind="encoder", base_model="base", job_id=job, metrics={"ndcg": 0.1}))


def test_a_version_comes_back_whole(store: WeightsStore, model: Path) -> None:
    manifest = _added(store, model)
    folder = Path(store.local_path("encoder", manifest.version))
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert (folder / "1_Pooling" / "config.json").read_text() == '{"pooling": "cls"}'
    assert store.manifest("encoder", manifest.version) == manifest
    assert store.versions("encoder") == [manifest.version]
    assert store.versions("decoder") == []


def test_the_id_follows_the_content(store: WeightsStore, model: Path) -> None:
    first = _added(store, model)
    assert _added(store, model).version == first.version
    (model / "model.safetensors").write_bytes(b"other weights")
    assert _added(store, model).version != first.version
    assert len(store.versions("encoder")) == 2


def test_a_changed_file_is_found_out(tmp_path: Path, model: Path) -> None:
    store = WeightsStore(str(tmp_path / "weights"), tmp_path / "cache")
    manifest = _added(store, model)
    assert store.deployed_digest("encoder", manifest.version) == manifest.digest
    folder = Path(store.local_path("encoder", manifest.version))
    (folder / "model.safetensors").write_bytes(b"tampered")
    with pytest.raises(FailedPrecondition, match=r"model\.safetensors"):
        store.local_path("encoder", manifest.version)
    assert store.deployed_digest("encoder", manifest.version) != manifest.digest
    (folder / "model.safetensors").unlink()
    assert store.deployed_digest("encoder", manifest.version) != manifest.digest


def test_a_local_copy_that_has_gone_bad_is_fetched_again(tmp_path: Path, model: Path) -> None:
    store = WeightsStore(f"memory://{tmp_path.name}/weights", tmp_path / "cache")
    manifest = _added(store, model)
    folder = Path(store.local_path("encoder", manifest.version))
    (folder / "model.safetensors").write_bytes(b"half a file")
    assert store.deployed_digest("encoder", manifest.version) != manifest.digest
    assert (Path(store.local_path("encoder", manifest.version)) / "model.safetensors").read_bytes() == b"weights"
    assert store.deployed_digest("encoder", manifest.version) == manifest.digest


def test_what_was_scored_is_kept_with_the_version(store: WeightsStore, model: Path) -> None:
    golden = Golden((1, 2), (3, 4), -5.5)
    added = store.add(model, Manifest(version="job-a", kind="encoder", base_model="base", golden=golden))
    kept = store.manifest("encoder", added.version).golden
    assert kept is not None
    assert (list(kept.prompt_token_ids), list(kept.response_token_ids), kept.log_prob) == ([1, 2], [3, 4], -5.5)
    assert kept.deviation(-5.7) == pytest.approx(0.1)  # 0.2 nats over two tokens
    assert kept.deviation(float("nan")) == float("inf")


def test_a_base_model_that_has_changed_is_found_out(store: WeightsStore, model: Path) -> None:
    base = store.ensure_base("decoder", str(model))
    assert store.deployed_digest("decoder", base.version) == base.digest == ""
    (model / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(FailedPrecondition, match="has changed since it was registered"):
        store.deployed_digest("decoder", base.version)


def test_every_byte_is_on_the_disk_before_the_manifest_appears(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Follows the system calls: when the manifest gets its name, every file and folder of the version has been synced."""
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    version = _added(WeightsStore(str(tmp_path / "weights"), tmp_path / "cache"), model).version
    folder = tmp_path / "weights" / "encoder" / version
    manifest_synced = next(at for at, path in enumerate(synced) if ".partial" in path)
    before, after = synced[:manifest_synced], synced[manifest_synced:]
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json", "1_Pooling", "", "..", "../.."):
        assert str((folder / name).resolve()) in before
    assert str(folder) in after


def test_without_a_manifest_there_is_no_version(tmp_path: Path, model: Path) -> None:
    store = WeightsStore(str(tmp_path / "weights"), tmp_path / "cache")
    version = _added(store, model).version
    (tmp_path / "weights" / "encoder" / version / "manifest.json").unlink()
    with pytest.raises(NotFound):
        store.local_path("encoder", version)
    assert store.versions("encoder") == []
    assert _added(store, model).version == version  # and a retry finishes the job


def test_a_removed_version_is_gone(store: WeightsStore, model: Path) -> None:
    version = _added(store, model).version
    store.remove("encoder", version)
    store.remove("encoder", version)
    with pytest.raises(NotFound):
        store.manifest("encoder", version)


def test_a_base_version_points_at_its_model(store: WeightsStore, model: Path) -> None:
    base = store.ensure_base("decoder", str(model))
    assert store.ensure_base("decoder", str(model)) == base
    assert store.local_path("decoder", base.version) == str(model)
    (model / "model.safetensors").write_bytes(b"other weights")
    assert store.ensure_base("decoder", str(model)).version != base.version


def test_a_hub_id_is_a_base_version_without_a_look_at_the_network(store: WeightsStore) -> None:
    base = store.ensure_base("encoder", "google/gemma-2b-it")
    assert store.local_path("encoder", base.version) == "google/gemma-2b-it"


def test_a_base_model_that_was_moved_is_found_where_it_is(store: WeightsStore, model: Path) -> None:
    version = store.ensure_base("decoder", str(model)).version
    moved = model.rename(model.with_name("moved"))
    assert store.ensure_base("decoder", str(moved)).version == version
    assert store.local_path("decoder", version) == str(moved)


def test_a_store_that_cannot_be_written_is_said_plainly(model: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the store should be")
    with pytest.raises(FailedPrecondition, match="cannot be written"):
        WeightsStore(str(tmp_path / "taken" / "weights"), tmp_path / "cache").ensure_base("encoder", str(model))


def test_a_missing_model_folder_is_said_plainly(store: WeightsStore, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="does not exist"):
        store.ensure_base("encoder", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FailedPrecondition, match=r"no config\.json"):
        store.ensure_base("encoder", str(tmp_path / "empty"))


@pytest.mark.parametrize("version", ["", "../../etc", "a/b"])
def test_a_version_cannot_name_a_path(store: WeightsStore, version: str) -> None:
    with pytest.raises(InvalidArgument):
        store.manifest("encoder", version)


def test_the_manifest_is_plain_json(tmp_path: Path, model: Path) -> None:
    version = _added(WeightsStore(str(tmp_path / "weights"), tmp_path / "cache"), model).version
    manifest = json.loads((tmp_path / "weights" / "encoder" / version / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["1_Pooling/config.json", "config.json", "model.safetensors"]


def test_services_that_start_together_register_a_base_version_without_harm(store: WeightsStore, model: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: store.ensure_base("encoder", str(model)), range(32)))
    assert len({manifest.version for manifest in found}) == 1


@pytest.mark.parametrize("version", [".", "..", "..."])
def test_no_version_id_leads_out_of_the_store(store: WeightsStore, model: Path, version: str) -> None:
    added = _added(store, model)
    with pytest.raises(InvalidArgument):
        store.remove("encoder", version)
    assert store.versions("encoder") == [added.version]
