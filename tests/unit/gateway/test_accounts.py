"""Forgetting a user, on a real Redis: nothing is left, others keep what is theirs, and it may be broken off anywhere."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio as redis
from redis.exceptions import ConnectionError as RedisConnectionError

from langptune.errors import Aborted, Unavailable
from services.gateway.accounts import Accounts
from services.gateway.interactions.histories import Histories
from services.gateway.interactions.store import Entry, Interactions, RequestName
from services.gateway.live import Pins
from services.gateway.profiles.erasure import Erasures
from services.gateway.profiles.marks import Mark
from services.gateway.profiles.revision import Draft, Origin, Suggestion
from services.gateway.profiles.store import Profiles
from services.gateway.recommendations.avoid import AvoidPhrases
from services.gateway.refresh.queue import RefreshQueue
from tests.support.stores import keys_with

TEXTS = ("the-user", "Likes submarines", "Dislikes fog", "a review of mine", "Might like tunnels", "loud clowns")


class Breaking(redis.Redis):
    """Loses its connection at the command that `left` counts down to."""

    left = 10**9

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if self.left == 0:
            raise RedisConnectionError("gone")
        self.left -= 1
        return await super().execute_command(*args, **options)


class NoDecoder:
    """Accounts ask the decoder only for titles in an export."""


def _accounts(client: redis.Redis) -> Accounts:
    interactions = Interactions(client, history_kept=100)
    decoder: Any = NoDecoder()
    histories, avoid, queue = Histories(interactions, decoder), AvoidPhrases(client), RefreshQueue(client, 3)
    return Accounts(interactions, histories, Profiles(client, 100), Erasures(client), avoid, [queue])


async def _fill(client: redis.Redis) -> None:
    """Two users, who chose i1 both, and one of whom is the user."""
    profiles, interactions = Profiles(client, 100), Interactions(client, 100)
    await interactions.record(
        {
            "the-user": [Entry("i1", 5.0, "a review of mine", 1), Entry("i2", 1.0, "", 2), Entry("i1", 4.0, "", 3)],
            "another": [Entry("i1", 3.0, "", 1)],
        },
        refresh_after=3,
        name=RequestName("r1", "d"),
    )
    await AvoidPhrases(client).add("the-user", "loud clowns")
    await profiles.edit("another", "Likes trains.", "", Pins())
    first = await profiles.edit("the-user", "Likes submarines. Dislikes fog.", "", Pins())
    await profiles.suggest("the-user", Suggestion("Might like tunnels.", Pins(), 2, 4))
    await profiles.mark("the-user", "Dislikes fog.", Mark.NOT_TRUE, first.etag, Pins())


async def test_nothing_is_left_of_a_user_and_all_of_another(client: redis.Redis) -> None:
    await _fill(client)
    assert len(await keys_with(client, TEXTS)) >= 3
    gone = await _accounts(client).delete("the-user")
    assert (gone.interactions, gone.revisions) == (3, 2)
    assert await keys_with(client, TEXTS) == {}
    assert (await Profiles(client, 100).get("another")).text == "Likes trains."
    assert await Interactions(client, 100).popular(10) == [("i1", 1.0)]  # one user is left, who chose i1
    again = await _accounts(client).delete("the-user")
    assert (again.interactions, again.revisions) == (0, 0)
    assert await Interactions(client, 100).popular(10) == [("i1", 1.0)]


async def test_it_may_be_broken_off_at_every_command(redis_url: str, client: redis.Redis) -> None:
    """At the first command, at the second, ... until it gets through; then once more from the start, on a sound connection."""
    for commands in range(50):
        await client.flushall()
        await _fill(client)
        async with Breaking.from_url(redis_url) as breaking:
            accounts = _accounts(breaking)
            breaking.left = commands
            try:
                await accounts.delete("the-user")
                break
            except RedisConnectionError:
                await _accounts(client).delete("the-user")
        assert await keys_with(client, TEXTS) == {}, commands
        assert await Interactions(client, 100).popular(10) == [("i1", 1.0)], commands
    assert 3 <= commands < 49


async def test_what_was_begun_before_is_not_stored_after(client: redis.Redis) -> None:
    profiles, erasures = Profiles(client, 100), Erasures(client)
    begun = await erasures.count("the-user")
    draft = Draft("Likes submarines.", Origin.GENERATED, Pins(), 1)
    await _accounts(client).delete("the-user")
    with pytest.raises(Aborted, match="deleted meanwhile"):
        await profiles.extend("the-user", None, draft, expected="", begun=begun)
    with pytest.raises(Aborted, match="deleted meanwhile"):
        await profiles.suggest("the-user", Suggestion("Might like tunnels.", Pins(), 2, 4), begun=begun)
    assert await keys_with(client, TEXTS) == {}
    later = await erasures.count("the-user")
    assert (await profiles.extend("the-user", None, draft, expected="", begun=later)).revision == 1
    [key] = [key async for key in client.scan_iter("langptune:erased:*")]
    assert 0 < await client.ttl(key) <= 86_400


@pytest.mark.parametrize("state", ["queued", "running", "delayed", "dead"])
async def test_queued_work_goes_along_wherever_it_is(client: redis.Redis, state: str) -> None:
    """And a worker that holds it comes back to find it gone."""
    await _fill(client)
    queue = RefreshQueue(client, 3)
    job = await queue.take("worker", 60.0, 0.0) if state != "queued" else None
    if job and state == "delayed":
        await queue.postpone(job, Unavailable("later"), 60.0)
    if job and state == "dead":
        await queue.bury(job, Unavailable("never"))
    await _accounts(client).delete("the-user")
    if job and state == "running":
        await queue.postpone(job, Unavailable("later"), 60.0)
    assert await keys_with(client, TEXTS) == {}
    assert (await queue.depth()).queued == 0
