"""Settings of the trainer and of its workers, which inherit the trainer's environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from langptune.settings import RedisSettings, ServiceSettings, WeightsSettings
from services.trainer.cluster.settings import KubernetesSettings
from services.trainer.publishing.slot_settings import SlotSettings


class TrainerSettings(ServiceSettings, RedisSettings, WeightsSettings, KubernetesSettings, SlotSettings):
    """What the control plane and the worker need to know."""

    trainer_port: int = Field(50054, ge=1, le=65535, description="port to listen on")
    trainer_metrics_port: int = Field(
        0, ge=0, le=65_535, description="port of the Prometheus metrics (/metrics over HTTP); 0: none are served"
    )
    encoder_address: str = Field("127.0.0.1:50052", description="host:port of the encoder that answers users")
    rollout_encoder_address: str = Field(
        "",
        description="host:port of the encoder that jobs load their weights on and sample from; empty: the same one",
    )
    decoder_address: str = Field("127.0.0.1:50053", description="host:port of the decoder that ranks come from")
    trainer_launcher: Literal["local", "kubernetes"] = Field(
        "local", description="where workers run: processes of this machine, or Kubernetes Jobs (docs/kubernetes-launcher.md)"
    )
    jobs_folder: str = Field("build/langptune/jobs", description="folder for checkpoints and worker logs, one below it per job")
    tensorboard_folder: str = Field("", description="folder for TensorBoard event files; empty: the folder of each job")
    torch_threads: int = Field(1, ge=1, le=256, description="threads of a worker's tensor arithmetic; at most the free cores")
    max_running_jobs: int = Field(1, ge=1, le=64, description="jobs that train at the same time; the others wait in order")
    max_restarts: int = Field(2, ge=0, le=100, description="times that a job whose worker died goes on from its checkpoint")
    checkpoint_seconds: float = Field(60.0, ge=0, description="seconds between two checkpoints, at least; 0 is after every step")
    checkpoints_kept: int = Field(2, ge=1, le=100, description="newest checkpoints of a job that are kept, its best one besides")
    heartbeat_seconds: float = Field(5.0, gt=0, description="seconds between two signs of life of a worker")
    worker_lost_seconds: float = Field(600.0, gt=0, description="seconds without one after which a worker is ended and replaced")
    worker_grace: float = Field(60.0, ge=0, description="seconds that a worker gets to finish its step when the trainer stops")
    poll_seconds: float = Field(0.5, gt=0, description="seconds between two looks at the running workers")
    outage_seconds: float = Field(120.0, ge=0, description="seconds that a worker waits for a service that is away")
    rollout_timeout: float = Field(600.0, gt=0, description="deadline of one chunk of rollouts, in seconds")
    rank_timeout: float = Field(120.0, gt=0, description="deadline of one chunk of ranks, in seconds")
    load_timeout: float = Field(1800.0, gt=0, description="deadline of loading a version and embedding the catalogue, in seconds")
    rollout_chunk: int = Field(64, ge=1, le=1024, description="histories of one SampleRollouts call")
    rank_chunk: int = Field(512, ge=1, le=4096, description="profiles of one RankTargets call")
    assumed_flops: float = Field(5e13, gt=0, description="FLOP/s that a process sustains, for the time that a dry run estimates")
    validation_users: int = Field(500, ge=0, description="validation users of a job that names no number")
    releases_kept: int = Field(10, ge=2, le=10_000, description="newest releases that keep their weights; older ones are retired")
    drain_seconds: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="seconds that a version which answered users stays loaded for requests still on their way",
    )
    publish_lease_seconds: float = Field(
        15.0, ge=0.5, le=600, description="seconds after which the publish of a trainer that died is taken up by another"
    )
    golden_tolerance: float = Field(
        0.02, gt=0, description="largest deviation of a golden log-prob, in nats per token; formats of 16 bits need about 0.02"
    )
    min_overlap: float = Field(
        0.9, ge=0, le=1, description="least share of sampled rankings' places that exact ranking must confirm before a publish"
    )
    gate_p_value: float = Field(
        0.05, ge=0, lt=1, description="a candidate is refused when a paired test finds it worse at this level; 0 never refuses"
    )
    gate_min_users: int = Field(
        20, ge=2, description="validation users that candidate and live release must share to be compared"
    )
    gate_readability_drop: float = Field(
        0.2, ge=0, le=1, description="how far terminated, distinct_2 and wordlike may fall below the live release's"
    )
    gate_length_ratio: float = Field(
        3.0, ge=1, description="how many times longer or shorter than the live release's profiles a candidate's may be, in words"
    )
