"""A watched job over a connection that breaks: no event twice, none left out, and an end to the patience."""

# ruff: noqa: N802  # gRPC names the methods

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from langptune.client import (
    CandidateMade,
    GuardFired,
    Item,
    JobState,
    LangPTune,
    RankingMetrics,
    StateChanged,
    StepDone,
    ValidationDone,
)
from langptune.errors import InvalidArgument, Unavailable
from langptune.rpc.interceptors import CallInterceptor
from langptune.v1 import common_pb2, gateway_pb2, gateway_pb2_grpc, trainer_pb2, trainer_pb2_grpc

EVENTS = [
    trainer_pb2.TrainingEvent(state_changed=trainer_pb2.StateChanged(state=trainer_pb2.JOB_STATE_RUNNING, message="go")),
    trainer_pb2.TrainingEvent(step_done=trainer_pb2.StepDone(phase="cl", step=1, steps_total=2, metrics={"loss": 0.5})),
    trainer_pb2.TrainingEvent(
        validation_done=trainer_pb2.ValidationDone(label="before", metrics=common_pb2.RankingMetrics(ndcg=0.25, users=4))
    ),
    trainer_pb2.TrainingEvent(guard_fired=trainer_pb2.GuardFired(guard="kl", value=41.5, limit=40, stops=True, message="far")),
    trainer_pb2.TrainingEvent(candidate_made=trainer_pb2.CandidateMade(release_id="r2")),
    trainer_pb2.TrainingEvent(state_changed=trainer_pb2.StateChanged(state=trainer_pb2.JOB_STATE_SUCCEEDED)),
]


class Trainer(trainer_pb2_grpc.TrainerServiceServicer):
    """Breaks after every second event, and for ever once it is `dead`."""

    def __init__(self) -> None:
        self.dead = False
        self.calls = 0

    async def WatchTrainingJob(
        self, request: trainer_pb2.WatchTrainingJobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[trainer_pb2.WatchTrainingJobResponse]:
        self.calls += 1
        for sent, sequence in enumerate(range(request.after_sequence + 1, len(EVENTS) + 1)):
            if self.dead or sent == 2:
                raise Unavailable("stopping")
            event = trainer_pb2.TrainingEvent(sequence=sequence)
            event.MergeFrom(EVENTS[sequence - 1])
            yield trainer_pb2.WatchTrainingJobResponse(event=event)


class Catalog(gateway_pb2_grpc.CatalogServiceServicer):
    """Takes what comes."""

    async def ImportCatalogItems(
        self, requests: AsyncIterator[gateway_pb2.ImportCatalogItemsRequest], context: grpc.aio.ServicerContext
    ) -> gateway_pb2.ImportCatalogItemsResponse:
        return gateway_pb2.ImportCatalogItemsResponse(imported=sum([len(request.items) async for request in requests]))


@pytest.fixture
async def trainer() -> Trainer:
    return Trainer()


@pytest.fixture
async def lp(trainer: Trainer) -> AsyncIterator[LangPTune]:
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    trainer_pb2_grpc.add_TrainerServiceServicer_to_server(trainer, server)
    gateway_pb2_grpc.add_CatalogServiceServicer_to_server(Catalog(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with LangPTune(f"127.0.0.1:{port}", timeout=5, reconnect_pause=0.01) as client:
        yield client
    await server.stop(None)


async def test_a_broken_watch_goes_on_where_it_broke(lp: LangPTune, trainer: Trainer) -> None:
    found = [event async for event in lp.watch_training_job("j1")]
    assert [event.sequence for event in found] == [1, 2, 3, 4, 5, 6]
    assert trainer.calls == 3
    assert [event.event for event in found] == [
        StateChanged(JobState.RUNNING, "go"),
        StepDone("cl", 0, 1, 2, {"loss": 0.5}),
        ValidationDone("before", RankingMetrics(0.25, 0.0, 0.0, 0, 4)),
        GuardFired("kl", 41.5, 40.0, True, "far"),
        CandidateMade("r2"),
        StateChanged(JobState.SUCCEEDED, ""),
    ]


async def test_a_watch_gives_up_when_nothing_comes(lp: LangPTune, trainer: Trainer) -> None:
    trainer.dead = True
    with pytest.raises(Unavailable, match="stopping"):
        async for _ in lp.watch_training_job("j1"):
            pass
    assert trainer.calls == 6


async def test_a_bad_line_in_the_source_of_an_import_is_told_as_such(lp: LangPTune) -> None:
    def lines() -> Iterator[Item]:
        yield Item("i1", "a title")
        raise InvalidArgument("line 7", "is not JSON")

    with pytest.raises(InvalidArgument, match="line 7: is not JSON"):
        await lp.import_items(lines())


async def test_nobody_there_is_unavailable() -> None:
    async with LangPTune("127.0.0.1:9", timeout=1) as client:
        with pytest.raises(Unavailable):
            await client.recommend("u1")
