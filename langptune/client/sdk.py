"""`LangPTune`: one method per RPC of the gateway, in Python values. `langptune.client.calls` has them by service.

Lists page themselves (async iterators), imports go out in chunks, a watched job is picked up again after a lost connection.
Everything raises `langptune.errors`: InvalidArgument (names the field), NotFound (names the resource), Aborted (carries the
current etag), Unauthenticated, PermissionDenied, Unavailable, DeadlineExceeded and the rest. `timeout` is in seconds; None is
the client's default.
"""

from __future__ import annotations

from langptune.client.calls.accounts import AccountCalls
from langptune.client.calls.catalogue import CatalogCalls
from langptune.client.calls.interactions import InteractionCalls
from langptune.client.calls.profiles import ProfileCalls
from langptune.client.calls.recommendations import RecommendationCalls
from langptune.client.calls.refresh_queue import RefreshQueueCalls
from langptune.client.calls.releases import ReleaseCalls
from langptune.client.calls.training import TrainingCalls


class LangPTune(
    RecommendationCalls,
    ProfileCalls,
    InteractionCalls,
    AccountCalls,
    CatalogCalls,
    RefreshQueueCalls,
    TrainingCalls,
    ReleaseCalls,
):
    """A connection to a gateway.

    import asyncio
    import sys
    from langptune.client import Interaction, Item, LangPTune, NewInteraction

    async def main() -> None:
        async with LangPTune("localhost:50051") as lp:
            await lp.import_items([Item("i1", "Alien", "A crew meets a stowaway."), Item("i2", "Paddington")])
            await lp.record_interactions("u1", [NewInteraction("i1", 5.0, "Still scares me.")])
            profile = await lp.refresh_profile("u1")
            await lp.update_profile("u1", profile.text + " No gore.", etag=profile.etag)
            recommendation = await lp.recommend("u1", k=10)
            for place in recommendation.items:
                sys.stdout.write(f"{place.position:3} {place.item.title}\\n")

    asyncio.run(main())
    """
