"""The order of events: one user from history to ranking, an edit, training, publish, rollback; each phase timed.

Every figure is measured while it is told, and goes into <home>/summary.json.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from langptune.cli.output import console, progress
from langptune.cli.recommend import ranking_table
from langptune.client import LangPTune, Recommendation, Release
from langptune.data.dataset import Dataset
from langptune.demo.editing import Edit, edit_of
from langptune.demo.measuring import CUTOFF, Training, measure_release, text_quality, train
from langptune.demo.plan import FULL, DemoPlan
from langptune.demo.showing import (
    draw_rewards,
    heading,
    say,
    show_comparison,
    show_history,
    show_moves,
    show_profile,
    show_scores,
)
from langptune.domain import Session
from langptune.errors import FailedPrecondition
from langptune.evaluate import METRICS, Measured, compare, popularity_scores, random_scores
from langptune.local import LocalSettings, LocalSystem
from langptune.local.process import exclusive
from langptune.local.settings import sample_model

LOOK = 100  # places of a ranking that old and new positions are looked up in
_CANDIDATES = 20  # test users that are looked at for one whose profile states a liking


async def tell(home: Path, *, stay: bool, plan: DemoPlan = FULL) -> dict[str, Any]:
    """Tell the story with all files below `home`; returns what summary.json holds.

    With `stay` the services stay up until this is cancelled. Raises typed errors; what was started is stopped in any case.
    """
    with exclusive(home):
        for left in ("system", "world"):
            shutil.rmtree(home / left, ignore_errors=True)
        story = Story(home, plan)
        with story.phase("samples", "The sample world"):
            dataset = await story.make_world()
        settings = _settings(home / "system")
        environment = {"LANGPTUNE_ENCODER_MAX_NEW_TOKENS": str(plan.max_new_tokens), "LANGPTUNE_GATEWAY_AUTH": "off"}
        with story.phase("start", "Four services and a Redis on 127.0.0.1"):
            system = LocalSystem(settings, environment=environment, on_started=lambda name, address: say(f"{name:8} {address}"))
            await system.__aenter__()
        try:
            async with LangPTune(system.gateway_address) as client:
                summary = await story.run(system, client, dataset)
            if stay:
                say(f"\nThe services stay up; open {settings.page_url}#{story.user} in a browser. Ctrl-C stops everything.")
                say(f"Try: langptune recommend {story.user} --gateway {system.gateway_address}")
                raise await system.died()
        finally:
            with console.status("Stopping what was started ..."):
                await system.stop()
        return summary


def _settings(home: Path) -> LocalSettings:
    """The sample models and a Redis of the demo's own, whatever the environment says: the demo writes into no other system."""
    models = {"profile_model": sample_model("profile-writer"), "embedding_model": sample_model("embedder")}
    return LocalSettings.load(home=home, **models).with_free_ports().model_copy(update={"redis_url": None})


@dataclass
class Story:
    """What has been told so far."""

    home: Path
    plan: DemoPlan
    user: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str, title: str) -> Iterator[None]:
        """A chapter with its heading and its time."""
        heading(len(self.seconds) + 1, title)
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 2)

    async def make_world(self) -> Dataset:
        """The sample world as a prepared data set."""
        from samples.dataset import make_dataset

        plan = self.plan
        with console.status("Making films and people ..."):
            dataset = await asyncio.to_thread(
                make_dataset, self.home / "world", items=plan.items, users=plan.users, seed=plan.seed
            )
        counts = dataset.info["counts"]
        say(f"{counts['items']:,} films, {counts['sessions']:,} people, {counts['interactions']:,} ratings with reviews.")
        return dataset

    async def run(self, system: LocalSystem, client: LangPTune, dataset: Dataset) -> dict[str, Any]:
        """Everything from the import to the rollback."""
        sessions = dataset.sessions("test")
        with self.phase("import", "Import the catalogue and the histories"):
            await self._import(client, dataset)
        with self.phase("profile", "A history, the profile written for it, and the ranking that follows"):
            before = await self._meet(client, sessions)
        with self.phase("edit", "The user edits the profile; the ranking follows at once"):
            await self._edit(client, before)
        held_out = sessions[: self.plan.test_users]
        live = await client.get_live_release()
        with self.phase("evaluate_before", f"Zero-shot: release {live.release_id} on {len(held_out):,} held-out people"):
            zero_shot = await self._zero_shot(system, dataset, live, held_out)
        with self.phase("train", "Train both models end to end on ranking quality"):
            training = await train(client, self.plan, dataset)
            draw_rewards(self.home / "reward-curve.png", training.rewards)
            say(f"Reward curve: {self.home / 'reward-curve.png'}")
        candidate = await client.get_release(training.job.release_id)
        with self.phase("evaluate_after", f"Trained: release {candidate.release_id} on the same people"):
            trained = await measure_release(system, self.plan, candidate, held_out, candidate.release_id)
            self._compare(held_out, zero_shot, trained, training)
        with self.phase("publish", f"Publish {candidate.release_id}; the same user again"):
            await self._publish(client, live, candidate)
        with self.phase("rollback", "Roll back"):
            after_rollback = await self._roll_back(client)
        self.summary["releases"] = {"before": live.release_id, "after": candidate.release_id, "after_rollback": after_rollback}
        return self._finish()

    async def _import(self, client: LangPTune, dataset: Dataset) -> None:
        items, interactions = dataset.items, dataset.interactions
        with progress() as bars:
            first, second = (
                bars.add_task(name, total=len(of), note="") for name, of in (("films", items), ("ratings", interactions))
            )
            catalogue = await client.import_items(items.values(), progress=lambda sent: bars.update(first, completed=sent))
            histories = await client.import_interactions(interactions, progress=lambda sent: bars.update(second, completed=sent))
        if catalogue.rejected or histories.rejected:
            reasons = [rejection.reason for rejection in (*catalogue.rejections, *histories.rejections)]
            raise FailedPrecondition(f"the import was refused in part: {reasons[0]}", reason="IMPORT_REJECTED")
        say(f"{catalogue.catalogue_size:,} films in the catalogue; histories of {histories.users:,} people.")
        self.summary["counts"] = {
            "items": catalogue.catalogue_size,
            "users": histories.users,
            "interactions": histories.recorded,
            "test_users": min(self.plan.test_users, len(dataset.sessions("test"))),
        }

    async def _meet(self, client: LangPTune, sessions: list[Session]) -> tuple[Edit, str, Recommendation]:
        """The first test user whose profile says what they like: (edit to make, etag, ranking)."""
        for session in sessions[:_CANDIDATES]:
            profile = await client.refresh_profile(session.user_id, seed=self.plan.seed)
            edit = edit_of(profile.text)
            if edit:
                break
        else:
            raise FailedPrecondition(f"none of {_CANDIDATES} profiles says what its user likes", reason="NO_LIKING_STATED")
        self.user = profile.user_id
        say(f"{self.user} has watched:")
        show_history([entry async for entry in client.list_interactions(self.user)][::-1])
        show_profile(profile)
        ranking = await client.recommend(self.user, k=LOOK)
        top = Recommendation(
            ranking.items[: self.plan.top], ranking.basis, ranking.basis_reason, ranking.versions, ranking.profile_revision
        )
        console.print(ranking_table(top))
        return edit, profile.etag, ranking

    async def _edit(self, client: LangPTune, met: tuple[Edit, str, Recommendation]) -> None:
        edit, etag, before = met
        say(f"Taken out: {edit.removed_sentence}\nPut in:    {edit.added_sentence}")
        profile = await client.update_profile(self.user, edit.text, etag=etag)
        show_profile(profile)
        after = await client.recommend(self.user, k=LOOK)
        show_moves(before, after, self.plan.top)
        top_before, top_after = ({place.item.item_id for place in each.items[: self.plan.top]} for each in (before, after))
        self.summary["edit"] = {
            "removed": edit.removed,
            "added": edit.added,
            "new_in_top": len(top_after - top_before),
            "top_with_added": {
                "before": _mentioning(before, edit.added, self.plan.top),
                "after": _mentioning(after, edit.added, self.plan.top),
            },
        }

    async def _zero_shot(self, system: LocalSystem, dataset: Dataset, live: Release, held_out: list[Session]) -> Measured:
        measured = await measure_release(system, self.plan, live, held_out, live.release_id)
        history = await measure_release(system, self.plan, live, held_out, "raw histories", by_history=True)
        rows = [
            ("Random", random_scores(dataset, held_out, CUTOFF)),
            ("Most Popular", popularity_scores(dataset, held_out, CUTOFF, self.plan.seed)),
            ("raw history, no profile", history.scores),
            (f"profiles of {live.release_id}, zero-shot", measured.scores),
        ]
        show_scores(rows, CUTOFF)
        self.summary["baselines"] = {label: scores.summary() for label, scores in rows[:3]}
        return measured

    def _compare(self, held_out: list[Session], before: Measured, after: Measured, training: Training) -> None:
        comparison = compare(before.scores, after.scores)
        show_scores([("zero-shot", before.scores), ("trained", after.scores)], CUTOFF)
        show_comparison(comparison, CUTOFF)
        texts = {"before": text_quality(held_out, before), "after": text_quality(held_out, after)}
        for name in ("truth", "likes_truth", "dislikes_truth", "repetition", "grammar", "words"):
            old, new = (asdict(texts[when])[name] for when in ("before", "after"))
            say(f"profiles, {name}: {old:.3f} -> {new:.3f}")
        self.summary["training"] = {
            "users": len(held_out),
            "samples": self.plan.samples,
            "steps": training.job.steps_done,
            "p_value": comparison["ndcg"].p_value,
            **{
                f"{name}_at_{CUTOFF}": {
                    "before": comparison[name].before,
                    "after": comparison[name].after,
                    "ratio": comparison[name].ratio,
                    "p_value": comparison[name].p_value,
                }
                for name in METRICS
            },
        }
        self.summary["profiles"] = {when: asdict(quality) for when, quality in texts.items()}

    async def _publish(self, client: LangPTune, live: Release, candidate: Release) -> None:
        with console.status("Loading both versions ..."):
            await client.publish_release(
                candidate.release_id, expected_live_release_id=live.release_id, reason="demo: better on held-out people"
            )
        profile = await client.refresh_profile(self.user, overwrite_edited=True, seed=self.plan.seed)
        show_profile(profile)
        ranking = await client.recommend(self.user, k=self.plan.top)
        _require_release(ranking, candidate.release_id)
        console.print(ranking_table(ranking))

    async def _roll_back(self, client: LangPTune) -> str:
        published = await client.rollback_release(reason="demo: showing the way back")
        ranking = await client.recommend(self.user, k=self.plan.top)
        _require_release(ranking, published.release.release_id)
        say(f"{published.release.release_id} answers again; {published.previous_release_id} can be published at any time.")
        return published.release.release_id

    def _finish(self) -> dict[str, Any]:
        seconds = {**self.seconds, "total": round(sum(self.seconds.values()), 2)}
        summary = {**self.summary, "seconds": seconds, "user": self.user, "plan": asdict(self.plan)}
        path = self.home / "summary.json"
        path.write_text(json.dumps(summary, indent=2) + "\n")
        say(f"\nDone in {seconds['total']:.0f} s. All figures: {path}")
        return summary


def _mentioning(ranking: Recommendation, attribute: str, top: int) -> int:
    """How many of the first `top` items have `attribute`."""
    from samples.world import attributes_of

    return sum(attribute in attributes_of(place.item) for place in ranking.items[:top])


def _require_release(ranking: Recommendation, release_id: str) -> None:
    if ranking.versions.release_id != release_id:
        answered = ranking.versions.release_id
        raise FailedPrecondition(f"release {answered} answered, not {release_id}, which is live", reason="STALE_RELEASE")
