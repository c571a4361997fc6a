"""The tree of commands. Each module below imports what it needs when a command of it runs, so that --help is quick."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import typer

from langptune.cli.account import app as account
from langptune.cli.backup import backup, restore
from langptune.cli.bulk import app as bulk
from langptune.cli.evaluation import evaluate
from langptune.cli.importing import app as importing
from langptune.cli.planning import app as planning
from langptune.cli.profile import app as profile
from langptune.cli.recommend import recommend
from langptune.cli.refresh_queue import app as refresh_queue
from langptune.cli.releases import app as releases
from langptune.cli.system import demo, up
from langptune.cli.token import keys, token
from langptune.cli.training import app as training
from langptune.data.command import app as data

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Recommendation through user profiles in plain language. Example: langptune demo",
)
app.command()(up)
app.command()(demo)
app.add_typer(data, name="data")
app.add_typer(importing, name="import")
app.add_typer(profile, name="profile")
app.command()(recommend)
app.add_typer(refresh_queue, name="refresh-queue")
app.command()(token)
app.command()(keys)
app.add_typer(account, name="account")
app.add_typer(training, name="train")
app.add_typer(releases, name="releases")
app.command()(evaluate)
app.add_typer(planning, name="plan")
app.command()(backup)
app.command()(restore)
app.add_typer(bulk, name="bulk")
if find_spec("experiments"):  # the paper's experiments stand above this package, which must not import them
    app.add_typer(import_module("experiments.command").app, name="experiment")
    app.add_typer(import_module("experiments.study.command").app, name="study")
