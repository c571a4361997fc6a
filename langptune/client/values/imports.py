"""What became of an import: what was taken, and which elements were not, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from langptune.v1 import common_pb2, gateway_pb2


@dataclass(frozen=True, slots=True)
class Rejection:
    """A problem with one element of an import that was otherwise taken."""

    index: int  # place in the import, from 0
    id: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportedItems:
    """The outcome of an import into the catalogue."""

    imported: int  # new or changed
    unchanged: int
    rejected: int
    rejections: tuple[Rejection, ...]  # the first 1,000
    catalogue_size: int


@dataclass(frozen=True, slots=True)
class ImportedInteractions:
    """The outcome of an import of histories."""

    recorded: int
    unchanged: int
    rejected: int
    rejections: tuple[Rejection, ...]  # the first 1,000
    users: int


def imported_items_from_proto(message: gateway_pb2.ImportCatalogItemsResponse) -> ImportedItems:
    rejections = _rejections(message.rejections)
    return ImportedItems(message.imported, message.unchanged, message.rejected, rejections, message.catalogue_size)


def imported_interactions_from_proto(message: gateway_pb2.ImportInteractionsResponse) -> ImportedInteractions:
    rejections = _rejections(message.rejections)
    return ImportedInteractions(message.recorded, message.unchanged, message.rejected, rejections, message.users)


def _rejections(messages: Iterable[common_pb2.Rejection]) -> tuple[Rejection, ...]:
    return tuple(Rejection(each.index, each.id, each.field, each.reason) for each in messages)
