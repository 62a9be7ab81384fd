"""``bake --graph`` draws who reads whom."""

from __future__ import annotations

import pytest

from pybuild.bake.definition import Selected
from pybuild.bake.drawing import drawn
from pybuild.bake.target import Target
from pybuild.model.errors import UsageError

SELECTED = Selected(
    {},
    {
        "end": Target("end", {"contexts": {'a"b': "target:lib", "src": "./src"}}),
        "lib": Target("lib", {}, is_linked=True),
    },
)


def test_a_target_that_is_built_for_others_alone_is_round_and_arrows_lead_to_who_reads() -> None:
    assert drawn(SELECTED, "mermaid").splitlines() == [
        "flowchart LR",
        '    t0["end"]',
        '    t1(["lib"])',
        '    t1 -->|"a&quot;b"| t0',
    ]
    assert drawn(SELECTED, "dot").splitlines() == [
        "digraph bake {",
        "  rankdir=LR;",
        '  "end" [shape=box];',
        '  "lib" [shape=ellipse];',
        '  "lib" -> "end" [label="a\\"b"];',
        "}",
    ]


def test_another_form_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match='invalid --graph "svg": mermaid or dot'):
        drawn(SELECTED, "svg")
