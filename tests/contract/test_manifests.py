"""The manifests as a contract with the services: a setting that is renamed, or a value no longer taken, must not land alone.

Every check of `tests/support/k8s` on the front door and the overlays; components on top of them are in tests/unit/k8s.
"""

from __future__ import annotations

import pytest

from tests.support.k8s.checks import CHECKS
from tests.support.k8s.manifests import K8S, KUBECTL, build

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: nothing else builds kustomizations")


@pytest.mark.parametrize("folder", [".", "overlays/dev", "overlays/production"])
def test_what_is_named_is_there_and_fits_together(folder: str) -> None:
    objects = build(K8S / folder)
    assert {check.__name__: check(objects) for check in CHECKS} == {check.__name__: [] for check in CHECKS}
