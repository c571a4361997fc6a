"""`langptune token` and `langptune keys`: tokens for development, and for a system that has no identity provider."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langptune.cli.output import JsonOption, console, print_json
from langptune.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_SECRET = "LANGPTUNE_GATEWAY_JWT_SECRET"
_KEY = "signing-key.pem"
_SET = "jwks.json"


def token(
    user: Annotated[str, typer.Argument(help="User id that the token speaks for.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="operator, training, releases, catalogue, imports or users; repeatable.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, max=8_760, help="How long it holds.")] = 12.0,
    key: Annotated[Path | None, typer.Option(help="Sign with this key of `langptune keys`, not with the shared secret.")] = None,
    issuer: Annotated[str | None, typer.Option(envvar="LANGPTUNE_GATEWAY_TOKEN_ISSUER", help="`iss` that it expects.")] = None,
    audience: Annotated[
        str | None, typer.Option(envvar="LANGPTUNE_GATEWAY_TOKEN_AUDIENCE", help="`aud` that it expects.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token for a gateway that runs with LANGPTUNE_GATEWAY_AUTH=jwt. The other commands send what LANGPTUNE_TOKEN holds.

    It is signed with --key, else with the shared secret: LANGPTUNE_GATEWAY_JWT_SECRET, or development's, which everybody knows.

    Example: langptune token user-00007 --scope operator
    """
    from langptune.convert import check_id
    from langptune.identity import AUDIENCE, ISSUER, Scope, mint

    scopes = list(dict.fromkeys(scope or ()))
    for name in scopes:
        if name not in [*Scope]:
            raise InvalidArgument("--scope", f"must be one of {', '.join(Scope)}, not {name!r}")
    minted = mint(
        check_id("user", user),
        _read_key(key) if key else _secret(),
        scopes=scopes,
        seconds=hours * 3_600,
        issuer=issuer or ISSUER,
        audience=audience or AUDIENCE,
    )
    if as_json:
        print_json({"token": minted, "user": user, "scopes": scopes, "hours": hours})
    else:
        sys.stdout.write(minted + "\n")


def keys(folder: Annotated[Path, typer.Argument(help="Folder to write to; must have no key yet.")]) -> None:
    """Make a key to sign tokens with (signing-key.pem: keep it secret) and the key set to check them by (jwks.json).

    Example: langptune keys build/keys
    """
    from langptune.identity import new_key, public_jwk, to_pem

    made = new_key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(folder / _KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(to_pem(made))
        (folder / _SET).write_text(json.dumps({"keys": [public_jwk(made)]}, indent=2) + "\n")
    except OSError as error:
        raise FailedPrecondition(f"{folder / _KEY} cannot be written: {error.strerror}", reason="STORAGE") from None
    console.print(f"Sign with:  langptune token USER --key {folder / _KEY}", highlight=False)
    console.print(f"Check with: LANGPTUNE_GATEWAY_JWKS={folder / _SET}", highlight=False)


def _read_key(path: Path) -> EllipticCurvePrivateKey:
    from langptune.identity import from_pem

    try:
        return from_pem(path.read_bytes())
    except OSError as error:
        raise InvalidArgument("--key", f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise InvalidArgument("--key", f"{path} is no key of `langptune keys`") from None


def _secret() -> str:
    from langptune.identity import DEVELOPMENT_SECRET, LEAST_SECRET

    secret = os.environ.get(_SECRET, DEVELOPMENT_SECRET)  # no option: other users of a machine see a command's arguments
    if len(secret.encode()) < LEAST_SECRET:
        raise InvalidArgument(_SECRET, f"must have {LEAST_SECRET} bytes or more, as the gateway demands of it")
    return secret
