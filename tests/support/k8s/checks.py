"""All checks of a kustomization's objects, by which other tests go through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.support.k8s.manifests import Object
from tests.support.k8s.pods import POD_CHECKS
from tests.support.k8s.references import namespaces, ports, references, selectors, targets

CHECKS: Sequence[Callable[[Sequence[Object]], list[str]]] = (selectors, targets, ports, references, namespaces, *POD_CHECKS)
