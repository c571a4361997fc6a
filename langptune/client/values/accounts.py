"""What is left to say of a user who was forgotten."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeletedUserData:
    """What there was of a user; zeros when it was gone already."""

    interactions: int
    revisions: int
