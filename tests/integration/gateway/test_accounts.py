"""Export and deletion through the client, over real services: the stores are searched for the user's id and words afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis

from langptune.client import LangPTune, NewInteraction, SentenceMark
from langptune.errors import Aborted, NotFound
from tests.integration.gateway.world import World
from tests.support.processes import running_service
from tests.support.stores import keys_with
from tests.support.system import command_line

USER = "somebody-to-forget"
WORDS = ("A review that nobody else wrote", "Adores lighthouses", "Cannot stand fog", "Zeppelins above all", "Loud clowns")


async def _live(lp: LangPTune, world: World) -> str:
    """A history, a profile by the encoder, the user's own words, a suggestion beside them, and a mark; returns the profile."""
    items = list(world.dataset.items)[:3]
    await lp.import_items(world.dataset.items.values())
    await lp.record_interactions(USER, [NewInteraction(item, 5.0, WORDS[0], 1_000 + at) for at, item in enumerate(items)])
    written = await lp.refresh_profile(USER, seed=1)
    await lp.update_profile(USER, f"{WORDS[1]}. {WORDS[2]}. {WORDS[3]}.", etag=written.etag)
    await lp.refresh_profile(USER, seed=2)
    page = await lp.get_profile_page(USER)
    await lp.mark_profile_sentence(USER, f"{WORDS[2]}.", SentenceMark.NOT_TRUE, etag=page.profile.etag)
    await lp.add_avoid_phrase(USER, WORDS[4])
    await lp.explain_profile(USER)
    await lp.recommend(USER, k=5, explain=True)
    await lp.preview(USER, f"{WORDS[3]}.")
    return written.text


async def _left(world: World) -> dict[str, str]:
    """Where the user's id or words stand: keys of Redis, and files of the decoder."""
    async with Redis.from_url(world.redis_url) as client:
        found = await keys_with(client, (USER, *WORDS))
    return found | await asyncio.to_thread(_files_with, world.folder / "decoder")


def _files_with(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in folder.rglob("*"):
        held = path.read_bytes() if path.is_file() else b""
        found |= {str(path): text for text in (USER, *WORDS) if text.encode() in held}
    return found


async def test_a_user_takes_everything_along_and_is_forgotten(lp: LangPTune, world: World) -> None:
    written = await _live(lp, world)
    records = [record async for record in lp.export_user_data(USER)]
    kinds = [next(iter(record)) for record in records]
    assert kinds == ["interaction"] * 3 + ["revision"] * 3 + ["suggestion", "mark", "avoidPhrase"]
    assert records[0]["interaction"]["review"] == WORDS[0]
    assert records[0]["interaction"]["item"]["title"]
    assert [record["revision"]["origin"] for record in records[3:6]] == [
        "PROFILE_ORIGIN_EDITED",
        "PROFILE_ORIGIN_EDITED",
        "PROFILE_ORIGIN_GENERATED",
    ]
    assert records[5]["revision"]["text"] == written
    assert records[7]["mark"] == {"sentence": f"{WORDS[2]}.", "mark": "SENTENCE_MARK_NOT_TRUE"}
    assert records[8] == {"avoidPhrase": WORDS[4]}
    assert await _left(world)
    gone = await lp.delete_user_data(USER)
    assert (gone.interactions, gone.revisions) == (3, 3)
    assert await _left(world) == {}
    assert [record async for record in lp.export_user_data(USER)] == []
    with pytest.raises(NotFound):
        await lp.get_profile(USER)
    again = await lp.delete_user_data(USER)
    assert (again.interactions, again.revisions) == (0, 0)


async def test_a_profile_that_is_being_written_is_not_stored(lp: LangPTune, world: World) -> None:
    """The encoder is stopped in the middle of a request, the user is deleted, the encoder goes on: nothing is left."""
    await lp.import_items(world.dataset.items.values())
    await lp.record_interactions(USER, [NewInteraction(next(iter(world.dataset.items)), 5.0, WORDS[0])])
    world.encoder.process.send_signal(signal.SIGSTOP)
    try:
        refreshing = asyncio.create_task(lp.refresh_profile(USER))
        await asyncio.sleep(0.3)
        await lp.delete_user_data(USER)
    finally:
        world.encoder.process.send_signal(signal.SIGCONT)
    with pytest.raises(Aborted, match="deleted meanwhile"):
        await refreshing
    assert await _left(world) == {}


async def test_evidence_that_is_being_looked_for_is_not_kept(lp: LangPTune, world: World) -> None:
    """The decoder is stopped in the middle of a request, the user is deleted, the decoder goes on: nothing is left."""
    await lp.import_items(world.dataset.items.values())
    await lp.record_interactions(USER, [NewInteraction(next(iter(world.dataset.items)), 5.0, WORDS[0])])
    await lp.refresh_profile(USER)
    world.decoder.process.send_signal(signal.SIGSTOP)
    try:
        explaining = asyncio.create_task(lp.explain_profile(USER))
        await asyncio.sleep(0.3)
        await lp.delete_user_data(USER)
    finally:
        world.decoder.process.send_signal(signal.SIGCONT)
    assert (await explaining).sentences
    assert await _left(world) == {}


async def test_an_export_needs_no_decoder(lp: LangPTune, world: World, tmp_path: Path) -> None:
    first = next(iter(world.dataset.items))
    await lp.import_items(world.dataset.items.values())
    await lp.record_interactions(USER, [NewInteraction(first, 5.0, WORDS[0])])
    with running_service("gateway", tmp_path, world.env | {"LANGPTUNE_DECODER_ADDRESS": "127.0.0.1:9"}) as gateway:
        async with LangPTune(gateway.address) as without:
            [record] = [record async for record in without.export_user_data(USER)]
            await without.delete_user_data(USER)
    assert (record["interaction"]["item"], record["interaction"]["review"]) == ({"itemId": first}, WORDS[0])
    assert await _left(world) == {}


def test_the_command_line(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    langptune = command_line(monkeypatch, capsys)
    gateway, file = ("--gateway", world.gateway.address), tmp_path / "mine.jsonl"
    langptune("profile", "edit", USER, "--text", WORDS[1], "--json", *gateway).json()
    assert langptune("account", "export", USER, "--out", str(file), *gateway).code == 0
    [record] = [json.loads(line) for line in file.read_text().splitlines()]
    assert record["revision"]["text"] == WORDS[1]
    assert langptune("account", "delete", USER, "--json", *gateway).error()["field"] == "--yes"
    assert langptune("account", "delete", USER, "--yes", "--json", *gateway).json() == {"interactions": 0, "revisions": 1}
