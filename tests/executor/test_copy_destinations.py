"""The places where a COPY puts files: specification section 10, examples E120 to E159."""

from __future__ import annotations

import pytest

from pybuild.executor.zygote.faults import Fault
from tests.executor.filetrees import BASE, Bench, Link, Spec, copy, needs_root

pytestmark = [pytest.mark.root, needs_root]


@pytest.mark.parametrize(
    ("context", "base", "sources", "dest", "expected"),
    [
        pytest.param({"f": "F"}, {}, ["/f"], "/d", {"/d": b"F"}, id="E120"),
        pytest.param({"f": "F"}, {}, ["/f"], "/d/", {"/d/f": b"F"}, id="E121"),
        pytest.param({"f": "F"}, {"d/": None}, ["/f"], "/d", {"/d/f": b"F"}, id="E122"),
        pytest.param(
            {"dir/a": "A", "dir/b/c": "C"},
            {},
            ["/dir"],
            "/d",
            {"/d/a": b"A", "/d/b/c": b"C"},
            id="E123",
        ),
        pytest.param(
            {"dir/a": "A", "file": "F"},
            {},
            ["/dir", "/file"],
            "/d",
            {"/d/a": b"A", "/d/file": b"F"},
            id="E124",
        ),
        pytest.param({"a": "A"}, {}, ["/*.nope"], "/d/", {}, id="E125"),
        pytest.param({"a": "A"}, {}, ["/a", "/nop[e]"], "/d/", {"/d/a": b"A"}, id="E127"),
        pytest.param({"x": "X"}, {}, ["/../x"], "/d", {"/d": b"X"}, id="E128"),
        pytest.param({"t": "T", "link": Link("t")}, {}, ["/link"], "/d", {"/d": b"T"}, id="E130"),
        pytest.param(
            {"f": "F"},
            {"l": Link("/real"), "real/": None},
            ["/f"],
            "/l/",
            {"/real/f": b"F"},
            id="E132",
        ),
        pytest.param({"a": "A", "b": "B"}, {}, ["/a", "/b"], "/d", {"/d": b"B"}, id="E159"),
        pytest.param(
            {"f": "F"},
            {"l": Link("/no/where")},
            ["/f"],
            "/l",
            {"/no/where": b"F"},
            id="CP-14-dangling",
        ),
        pytest.param(
            {"f": "F"},
            {"l": Link("../../../up")},
            ["/f"],
            "/l",
            {"/up": b"F"},
            id="CP-14-climbing",
        ),
        pytest.param(
            {"x/1.c": "1", "x/2.c": "2", "x/3.h": "3"},
            {},
            ["/x/*.c"],
            "/d/",
            {"/d/1.c": b"1", "/d/2.c": b"2"},
            id="CP-3",
        ),
        pytest.param({"a[b": "X"}, {}, ["/a\\[b"], "/d/", {"/d/a[b": b"X"}, id="CP-3-escape"),
        pytest.param(
            {"d1/a": "1", "d2/a": "2", "d2/b": "3"},
            {},
            ["/d*"],
            "/x/",
            {"/x/a": b"2", "/x/b": b"3"},
            id="CP-5-merge",
        ),
    ],
)
def test_files_end_up_where_the_specification_says(
    bench: Bench,
    context: Spec,
    base: Spec,
    sources: list[str],
    dest: str,
    expected: dict[str, bytes],
) -> None:
    tree = bench.delta({**BASE, **base}).context(context).run(*(copy(s, dest) for s in sources))
    files = {p: s.content for p, s in tree.items() if s.kind == "-" and p != "/keep"}
    assert files == expected
    assert not any(p.startswith("/d") for p in tree) or expected


def test_copying_a_file_before_a_directory_to_a_new_name_fails(bench: Bench) -> None:
    """E124, the other way round."""
    bench.delta(BASE).context({"dir/a": "A", "file": "F"})
    with pytest.raises(Fault, match="^cannot copy to non-directory: /d$"):
        bench.run(copy("/file", "/d"), copy("/dir", "/d"))


def test_missing_literal_source_fails(bench: Bench) -> None:
    """E126."""
    with pytest.raises(Fault, match='^"/nope": not found$') as caught:
        bench.delta(BASE).context({"a": ""}).run(copy("/nope", "/d/"))
    assert caught.value.kind == "moved"
