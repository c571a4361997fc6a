"""`langptune token`: a token for development, signed with the gateway's secret. Production has an identity provider."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from langptune.cli.output import JsonOption, print_json
from langptune.errors import InvalidArgument

_SECRET = "LANGPTUNE_GATEWAY_JWT_SECRET"


def token(
    user: Annotated[str, typer.Argument(help="User id that the token speaks for.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="operator, training, releases, catalogue, imports or users; repeatable.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, max=8_760, help="How long it holds.")] = 12.0,
    issuer: Annotated[str | None, typer.Option(envvar="LANGPTUNE_GATEWAY_TOKEN_ISSUER", help="`iss` that it expects.")] = None,
    audience: Annotated[
        str | None, typer.Option(envvar="LANGPTUNE_GATEWAY_TOKEN_AUDIENCE", help="`aud` that it expects.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token for a gateway that runs with LANGPTUNE_GATEWAY_AUTH=jwt and a shared secret: LANGPTUNE_GATEWAY_JWT_SECRET, or
    development's, which everybody knows. The other commands send what LANGPTUNE_TOKEN holds.

    Example: langptune token user-00007 --scope operator
    """
    from langptune.convert import check_id
    from langptune.identity import AUDIENCE, DEVELOPMENT_SECRET, ISSUER, LEAST_SECRET, Scope, mint

    scopes = list(dict.fromkeys(scope or ()))
    for name in scopes:
        if name not in [*Scope]:
            raise InvalidArgument("--scope", f"must be one of {', '.join(Scope)}, not {name!r}")
    secret = os.environ.get(_SECRET, DEVELOPMENT_SECRET)  # no option: other users of a machine see a command's arguments
    if len(secret.encode()) < LEAST_SECRET:
        raise InvalidArgument(_SECRET, f"must have {LEAST_SECRET} bytes or more, as the gateway demands of it")
    minted = mint(
        check_id("user", user),
        secret,
        scopes=scopes,
        seconds=hours * 3_600,
        issuer=issuer or ISSUER,
        audience=audience or AUDIENCE,
    )
    if as_json:
        print_json({"token": minted, "user": user, "scopes": scopes, "hours": hours})
    else:
        sys.stdout.write(minted + "\n")
