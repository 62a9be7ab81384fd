"""No circle of imports, whichever kind counts."""

from __future__ import annotations

import networkx
import pytest

from tests.importgraph import importgraph


@pytest.mark.slow
def test_no_module_imports_itself_by_way_of_others() -> None:
    circles = [sorted(circle) for circle in networkx.strongly_connected_components(importgraph())]
    assert [circle for circle in circles if len(circle) > 1] == []
