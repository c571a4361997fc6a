"""The table of rights against what is served, and the settings that would let strangers in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from langptune.errors import PermissionDenied
from langptune.identity import Scope
from services.gateway.identity.policy import OWN, POLICY, SIGNED_IN, TRAINING, Rule, check_complete
from services.gateway.identity.tokens import Caller
from services.gateway.server import SERVED
from services.gateway.settings import GatewaySettings

GET_PROFILE = "/langptune.v1.ProfileService/GetProfile"


def test_every_served_rpc_has_a_row_and_every_row_an_rpc() -> None:
    check_complete(SERVED)
    assert not [path for path in POLICY if "EncoderService" in path or "DecoderService" in path]


def test_a_forgotten_rpc_is_named() -> None:
    without = {path: rule for path, rule in POLICY.items() if path != GET_PROFILE}
    with pytest.raises(ValueError, match="ProfileService/GetProfile has no row"):
        check_complete(SERVED, without)
    with pytest.raises(ValueError, match="ProfileService/Guess is not served"):
        check_complete(SERVED, {**POLICY, "/langptune.v1.ProfileService/Guess": OWN})
    with pytest.raises(ValueError, match="GetProfile: users reach their own data"):
        check_complete(SERVED, {**POLICY, GET_PROFILE: SIGNED_IN})
    with pytest.raises(ValueError, match="CreateTrainingJob: users reach their own data"):
        check_complete(SERVED, {**POLICY, "/langptune.v1.TrainerService/CreateTrainingJob": OWN})


@pytest.mark.parametrize(
    ("rule", "scopes", "user_id", "reason"),
    [
        (OWN, "", "u1", ""),
        (OWN, "", "u2", "NOT_YOURS"),
        (OWN, "", "", "NOT_YOURS"),
        (OWN, "operator", "u2", "NOT_YOURS"),
        (OWN, "users", "u2", ""),
        (SIGNED_IN, "", "", ""),
        (TRAINING, "", "", "SCOPE_MISSING"),
        (TRAINING, "releases users", "", "SCOPE_MISSING"),
        (TRAINING, "training", "", ""),
        (TRAINING, "operator", "", ""),
        (TRAINING, "OPERATOR", "", "SCOPE_MISSING"),
    ],
)
def test_a_row_lets_in_whom_it_says(rule: Rule, scopes: str, user_id: str, reason: str) -> None:
    caller = Caller("u1", frozenset(scopes.split()))
    if not reason:
        rule.check(caller, SimpleNamespace(user_id=user_id))
        return
    with pytest.raises(PermissionDenied) as caught:
        rule.check(caller, SimpleNamespace(user_id=user_id))
    assert caught.value.reason == reason


def test_the_scope_that_is_missing_is_named() -> None:
    with pytest.raises(PermissionDenied, match="'training' or 'operator'") as caught:
        TRAINING.check(Caller("u1", frozenset()), None)
    assert caught.value.metadata == {"scope": Scope.TRAINING}


LONG = "a secret of thirty-two bytes, or more"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "Set LANGPTUNE_GATEWAY_AUTH=jwt"),
        ({"host": "10.0.0.7"}, "Set LANGPTUNE_GATEWAY_AUTH=jwt"),
        ({"host": "gateway"}, "Set LANGPTUNE_GATEWAY_AUTH=jwt"),
        ({"environment": "production"}, "Set LANGPTUNE_GATEWAY_AUTH=jwt"),
        ({"gateway_auth": "jwt", "host": "0.0.0.0"}, "everybody knows"),
        ({"gateway_auth": "jwt", "gateway_jwt_secret": "short"}, "has 5 bytes"),
        ({"gateway_auth": "jwt", "gateway_jwt_secret": LONG, "environment": "production"}, "set LANGPTUNE_GATEWAY_JWKS"),
        ({"gateway_auth": "jwt", "gateway_jwks": "http://idp.example.com/jwks.json"}, "must be an https URL"),
    ],
)
def test_settings_that_let_strangers_in_are_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GatewaySettings.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"host": "::1"},
        {"host": "localhost", "gateway_auth": "jwt"},
        {"gateway_auth": "jwt", "host": "0.0.0.0", "gateway_jwt_secret": LONG},
        {"gateway_auth": "jwt", "host": "0.0.0.0", "environment": "production", "gateway_jwks": "https://idp/jwks.json"},
        {"gateway_auth": "jwt", "environment": "production", "gateway_jwks": "/etc/langptune/jwks.json"},
    ],
)
def test_settings_that_are_safe(settings: dict[str, str]) -> None:
    GatewaySettings.model_validate(settings)
