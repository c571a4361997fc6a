"""The queue of profiles to be written again, on a real Redis: once per user, attempts counted, taken over from the dead."""

import asyncio

import pytest
import redis.asyncio as redis

from langptune.errors import AlreadyExists, InvalidArgument, ResourceExhausted, Unavailable
from services.gateway.interactions.store import Entry, Interactions, Outcome, RequestName
from services.gateway.refresh.queue import Depth, Job, RefreshQueue
from services.gateway.writing.worker import Patience

LEASE = 0.2  # seconds
AFTER = 3


@pytest.fixture
def queue(client: redis.Redis) -> RefreshQueue:
    return RefreshQueue(client, AFTER)


async def _record(interactions: Interactions, user_id: str, *moments: int) -> Outcome:
    entries = [Entry("a", 4.0, "", moment) for moment in moments]
    return (await interactions.record({user_id: entries}, refresh_after=AFTER))[user_id]


async def _take(queue: RefreshQueue, consumer: str = "one") -> Job | None:
    return await queue.take(consumer, LEASE, 0.01)


async def _counts(queue: RefreshQueue) -> tuple[int, int, int, int]:
    depth: Depth = await queue.depth()
    return depth.queued, depth.running, depth.delayed, depth.dead


async def test_enough_new_interactions_queue_a_user_once(interactions: Interactions, queue: RefreshQueue) -> None:
    assert not (await _record(interactions, "u1", 1, 2)).refresh_pending
    assert not (await _record(interactions, "u1", 1, 2)).refresh_pending, "what was there already is not new"
    assert await queue.state("u1") == (2, False)
    assert (await _record(interactions, "u1", 3)).refresh_pending
    assert (await _record(interactions, "u1", 4, 5, 6)).refresh_pending
    assert await _counts(queue) == (1, 0, 0, 0)
    job = await _take(queue)
    assert job is not None
    assert (job.user_id, job.attempt) == ("u1", 1)
    await _record(interactions, "u1", 7)
    assert await _counts(queue) == (0, 1, 0, 0), "nobody queues a user whose profile is being written"
    assert await _take(queue) is None


async def test_an_import_counts_and_queues_nothing(interactions: Interactions, queue: RefreshQueue) -> None:
    await interactions.record({"u1": [Entry("a", 4.0, "", moment) for moment in range(9)]})
    assert await queue.state("u1") == (9, False)
    assert (await _record(interactions, "u1", 100)).refresh_pending


async def test_settling_takes_off_what_was_seen_and_queues_again_for_what_came_meanwhile(
    interactions: Interactions, queue: RefreshQueue
) -> None:
    await _record(interactions, "u1", 1, 2, 3)
    assert await _take(queue)
    await _record(interactions, "u1", 4)
    await queue.settle("u1", 3)
    await queue.settle("u1", 0)
    assert await queue.state("u1") == (1, False)
    assert await _counts(queue) == (0, 0, 0, 0)
    await _record(interactions, "u1", 5, 6)
    assert await _take(queue)
    await _record(interactions, "u1", 7, 8, 9)
    await queue.settle("u1", 3)
    assert await queue.state("u1") == (3, True)
    assert await _counts(queue) == (1, 0, 0, 0)


async def test_a_job_is_taken_over_only_when_its_worker_is_silent(interactions: Interactions, queue: RefreshQueue) -> None:
    await _record(interactions, "u1", 1, 2, 3)
    job = await _take(queue, "one")
    assert job is not None
    for _ in range(4):
        await asyncio.sleep(LEASE / 2)
        assert await queue.hold(job, "one")
        assert await _take(queue, "two") is None
    await asyncio.sleep(LEASE * 1.5)
    taken_over = await _take(queue, "two")
    assert taken_over == Job("u1", job.entry_id, 2), "the attempt of the silent one counts"
    assert not await queue.hold(job, "one")
    assert await queue.hold(taken_over, "two")


async def test_failures_wait_then_are_given_up_and_can_be_replayed(interactions: Interactions, queue: RefreshQueue) -> None:
    await _record(interactions, "u1", 1, 2, 3)
    job = await _take(queue)
    assert job is not None
    await queue.postpone(job, Unavailable("no encoder"), 0.1)
    assert await _counts(queue) == (0, 0, 1, 0)
    assert (await _record(interactions, "u1", 4)).refresh_pending
    assert await _take(queue) is None
    await asyncio.sleep(0.15)
    again = await _take(queue)
    assert again is not None
    assert (again.user_id, again.attempt) == ("u1", 2)
    await queue.bury(again, Unavailable("still no encoder"))
    assert await _counts(queue) == (0, 0, 0, 1)
    assert await queue.state("u1") == (4, False)
    assert not (await _record(interactions, "u1", 5)).refresh_pending, "the dead are queued by an operator only"
    (dead,), token, total = await queue.dead(10, "")
    assert (dead.user_id, dead.code, dead.message, dead.attempts) == ("u1", "UNAVAILABLE", "still no encoder", 2)
    assert (token, total) == ("", 1)
    assert await queue.replay(["u2", "u1"]) == 1
    assert await queue.replay([]) == 0
    replayed = await _take(queue)
    assert replayed is not None
    assert (replayed.user_id, replayed.attempt) == ("u1", 1)


async def test_the_dead_are_listed_by_pages(interactions: Interactions, queue: RefreshQueue) -> None:
    for user in ("u1", "u2", "u3"):
        await _record(interactions, user, 1, 2, 3)
        job = await _take(queue)
        assert job is not None
        await queue.bury(job, Unavailable("no encoder"))
        await asyncio.sleep(0.002)  # the order is that of the moments, to the millisecond
    first, token, total = await queue.dead(2, "")
    rest, end, _ = await queue.dead(2, token)
    assert [each.user_id for each in first + rest] == ["u1", "u2", "u3"]
    assert (end, total) == ("", 3)
    for bad in ("!", "eA=="):
        with pytest.raises(InvalidArgument, match="page_token"):
            await queue.dead(2, bad)
    assert await queue.replay([]) == 3


async def test_a_job_that_is_handed_back_costs_no_attempt(interactions: Interactions, queue: RefreshQueue) -> None:
    await _record(interactions, "u1", 1, 2, 3)
    for _ in range(3):
        job = await _take(queue)
        assert job is not None
        assert job.attempt == 1
        await queue.release(job)


async def test_a_consumer_that_leaves_takes_nothing_with_it(
    client: redis.Redis, interactions: Interactions, queue: RefreshQueue
) -> None:
    await _record(interactions, "u1", 1, 2, 3)
    assert await _take(queue, "one")
    await queue.leave("one")
    await asyncio.sleep(LEASE * 1.5)
    assert await _take(queue, "two"), "what it held is taken over"
    await queue.leave("one")
    left = await client.xinfo_consumers("langptune:refresh-queue", "gateways")
    assert [consumer["name"] for consumer in left] == [b"two"]


async def test_whatever_is_queued_of_a_user_can_be_forgotten(
    client: redis.Redis, interactions: Interactions, queue: RefreshQueue
) -> None:
    """Queued, running, delayed and dead: nothing of the queue names the user any more."""
    for stage in range(4):
        await _record(interactions, "u1", *range(10 * stage, 10 * stage + 3))
        job = await _take(queue) if stage else None
        if job and stage > 1:
            await (queue.postpone(job, Unavailable("x"), 60) if stage == 2 else queue.bury(job, Unavailable("x")))
        assert sum(await _counts(queue)) == 1
        await queue.forget("u1")
        assert await _counts(queue) == (0, 0, 0, 0)
        assert await client.keys("langptune:refresh:*") == []
        if job:
            await queue.bury(job, Unavailable("late"))  # its worker does not know yet
            assert await _counts(queue) == (0, 0, 0, 0)


async def test_a_named_request_sent_again_has_its_first_answer(interactions: Interactions) -> None:
    """A time that the caller leaves out is another at every call, so only the name tells that it is the same."""
    name = RequestName("r1", "digest")
    first = await interactions.record({"u1": [Entry("a", 4.0, "", 100)]}, name=name)
    again = await interactions.record({"u1": [Entry("a", 4.0, "", 101)]}, name=name)
    assert again == first == {"u1": Outcome(1, 0, 1)}
    with pytest.raises(AlreadyExists, match="'r1'"):
        await interactions.record({"u1": [Entry("b", 4.0, "", 100)]}, name=RequestName("r1", "another"))
    assert await interactions.record({"u2": [Entry("a", 4.0, "", 102)]}, name=name) == {"u2": Outcome(1, 0, 1)}
    assert len(await interactions.latest("u1", 10)) == 1


def test_pauses_grow_and_heed_what_a_full_encoder_asks_for() -> None:
    """Two seconds, then four times as long each: 2, 8, 32, 128, 512, at most 600; a fifth more or less."""
    patience = Patience(backoff=2.0)
    for attempt, expected in ((1, 2.0), (2, 8.0), (5, 512.0), (6, 600.0)):
        assert 0.8 * expected <= patience.delay(attempt, Unavailable("x")) <= 1.2 * expected
    assert patience.delay(1, ResourceExhausted("full", retry_after=100.0)) >= 80.0
