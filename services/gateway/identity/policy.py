"""Who may call what: one row for every RPC that the gateway serves, and nothing is open that has no row.

`check_complete` holds the table against what is served, so the gateway does not start with an RPC that was forgotten here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from langptune.errors import PermissionDenied
from langptune.identity import Scope
from services.gateway.identity.tokens import Caller

_USER = "user_id"  # the field of a request that says whose data it is about


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call an RPC."""

    scope: Scope | None = None  # who has it may; None: whoever has a token
    own: bool = False  # also a user, where the request's user_id is their own
    cost: int = 1  # what a call takes from the limits

    def check(self, caller: Caller, request: Any) -> None:
        """Raises PermissionDenied. `request` is looked at only where users reach their own data."""
        if self.scope is None or caller.has(self.scope) or (self.own and request.user_id == caller.subject):
            return
        if self.own:
            message = "a token reaches its own user's data alone: user_id must be its subject, or its scopes must have 'users'"
            raise PermissionDenied(message, reason="NOT_YOURS")
        enough = " or ".join(f"'{scope}'" for scope in dict.fromkeys((self.scope, Scope.OPERATOR)))
        message = f"this needs a token with the scope {enough}"
        raise PermissionDenied(message, reason="SCOPE_MISSING", metadata={"scope": self.scope})


SIGNED_IN = Rule()
OWN = Rule(Scope.USERS, own=True)
WRITTEN = Rule(Scope.USERS, own=True, cost=20)  # a language model writes
EXPORT = Rule(Scope.USERS, own=True, cost=20)  # reads all there is
TRAINING = Rule(Scope.TRAINING)
RELEASES = Rule(Scope.RELEASES)
OPERATOR = Rule(Scope.OPERATOR)

_ROWS: dict[str, dict[str, Rule]] = {
    "RecommendationService": {"Recommend": OWN, "Preview": OWN},
    "ProfileService": {
        "GetProfile": OWN,
        "ExplainProfile": OWN,
        "AddAvoidPhrase": OWN,
        "RemoveAvoidPhrase": OWN,
        "ListAvoidPhrases": OWN,
        "UpdateProfile": OWN,
        "RefreshProfile": WRITTEN,
        "AcceptProfileSuggestion": OWN,
        "DismissProfileSuggestion": OWN,
        "MarkProfileSentence": OWN,
        "ListProfileRevisions": OWN,
        "DiffProfileRevisions": OWN,
        "RestoreProfileRevision": OWN,
    },
    "AccountService": {"ExportUserData": EXPORT, "DeleteUserData": OWN},
    "InteractionService": {
        "RecordInteractions": OWN,
        "ListInteractions": OWN,
        "ImportInteractions": Rule(Scope.IMPORTS),
    },
    "CatalogService": {
        "ImportCatalogItems": Rule(Scope.CATALOGUE),
        "GetCatalogItem": SIGNED_IN,
        "ListCatalogItems": SIGNED_IN,
    },
    "RefreshQueueService": {
        "GetRefreshQueue": OPERATOR,
        "ListDeadRefreshes": OPERATOR,
        "ReplayDeadRefreshes": OPERATOR,
    },
    "TrainerService": {
        "CreateTrainingJob": TRAINING,
        "GetTrainingJob": TRAINING,
        "ListTrainingJobs": TRAINING,
        "CancelTrainingJob": TRAINING,
        "ResumeTrainingJob": TRAINING,
        "WatchTrainingJob": TRAINING,
    },
    "ReleaseService": {
        "GetRelease": RELEASES,
        "GetLiveRelease": RELEASES,
        "ListReleases": RELEASES,
        "PublishRelease": RELEASES,
        "RollbackRelease": RELEASES,
        "GetPublish": RELEASES,
        "ListReleaseMoves": RELEASES,
        "CheckGate": RELEASES,
        "VerifyRelease": RELEASES,
        "PruneReleases": RELEASES,
    },
}

POLICY: Mapping[str, Rule] = {
    f"/langptune.v1.{service}/{method}": rule for service, rows in _ROWS.items() for method, rule in rows.items()
}


def check_complete(services: Iterable[ServiceDescriptor], policy: Mapping[str, Rule] = POLICY) -> None:
    """Raises ValueError naming each served RPC without a row, each row without an RPC, and each that does not fit its request."""
    served = {f"/{service.full_name}/{method.name}": method for service in services for method in service.methods}
    problems = [f"{path} has no row" for path in served.keys() - policy.keys()]
    problems += [f"{path} is not served" for path in policy.keys() - served.keys()]
    for path in served.keys() & policy.keys():
        if policy[path].own is not _names_a_user(served[path]):
            problems.append(f"{path}: users reach their own data where one request names a user, and only there")
    if problems:
        raise ValueError("the table of rights: " + "; ".join(sorted(problems)))


def _names_a_user(method: MethodDescriptor) -> bool:
    return _USER in method.input_type.fields_by_name and not method.client_streaming
