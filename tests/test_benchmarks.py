"""The benchmark runs, and what it says of its figures is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import cluster, clustersim, data, plot, report, scale
from benchmarks.measure import Figures
from benchmarks.workloads import WORKLOADS
from pybuild.executor.zygote.overlay import MAX_LOWERS
from pybuild.frontend.syntax.ast import Copy
from pybuild.frontend.syntax.parse import parse_dockerfile
from tests.harness import ROOT
from tests.needs import need


def row(ours: float, theirs: float, layers: float = 1.0) -> dict[str, Figures]:
    return {
        "pybuild": Figures(seconds=[ours] * 5, layer_bytes=int(layers * 1000)),
        "buildkit": Figures(seconds=[theirs] * 5, layer_bytes=1000),
    }


def test_a_row_says_what_was_reached() -> None:
    push = WORKLOADS["push"]
    assert report.verdict(push, row(0.2, 1)) == "dream"
    assert report.verdict(push, row(0.35, 1)) == "reached"
    assert report.verdict(push, row(0.36, 1)) == "not reached"


def test_larger_layers_do_not_count_however_fast() -> None:
    assert report.verdict(WORKLOADS["push"], row(0.1, 1, 1.11)).startswith("does not count")
    assert report.verdict(WORKLOADS["push"], row(0.1, 1, 1.10)) == "dream"


def test_a_builder_that_failed_has_no_ratio() -> None:
    figures = {"pybuild": Figures(seconds=[1.0]), "buildkit": Figures(failed="no such file")}
    assert report.ratio(figures, "pybuild") is None
    lines = report.table(WORKLOADS, {"noop": figures}, ["pybuild", "buildkit"]).splitlines()
    assert lines[2].startswith("| noop | 1.000 (1.000 … 1.000) | – | – |")


def test_data_is_the_same_each_time_and_compresses_like_programs_do() -> None:
    import zlib

    whole = b"".join(data.pieces(3_000_000, 1))
    assert len(whole) == 3_000_000
    assert whole == b"".join(data.pieces(3_000_000, 1)) != b"".join(data.pieces(3_000_000, 2))
    assert 0.25 < len(zlib.compress(whole, 1)) / len(whole) < 0.6


def test_plots_are_xml() -> None:
    ElementTree.fromstring(plot.bars("a < b", [plot.Bar("noop", 0.4, 1.0), plot.Bar("x", 9)]))
    lines = {"first": [(10, 0.5), (1000, 40.0)], "again": [(10, 0.1)]}
    ElementTree.fromstring(plot.curves("files & more", "files", "s", lines))


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.registry
def test_it_measures_a_workload(tmp_path: Path) -> None:
    need("busybox", "docker-registry")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--only", "ocitar", "--peers", "none"),
            *("--rounds", "1", "--size", "0.02", "--dir", str(tmp_path), "--out", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    assert "file system" in found["machine"]
    ours = found["workloads"]["ocitar"]["pybuild"]
    assert ours["failed"] == ""
    assert len(ours["seconds"]) == 1
    assert ours["layer_bytes"] > 1000
    assert ours["peak_bytes"] > 1 << 20
    assert 0 < ours["processor"][0] < 60
    assert not list(tmp_path.glob("pybuild-bench-*")), "the place is removed"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vertices", "stages"])
def test_the_largest_step_of_a_scale_is_a_file_that_can_be_built(name: str, tmp_path: Path) -> None:
    """More instructions than the parser takes, or layers than the kernel, were noticed only when run."""
    kind = scale.SCALES[name]
    kind.make(tmp_path, kind.steps[-1])
    file = parse_dockerfile((tmp_path / "Dockerfile").read_bytes())
    copies = {"scratch": 0}
    for stage in file.stages:
        copied = sum(isinstance(item, Copy) for item in stage.body)
        copies[stage.start.name or ""] = copies[stage.start.base] + copied
    assert sum(len(stage.body) for stage in file.stages) > 0.99 * kind.steps[-1]
    assert max(copies.values()) <= MAX_LOWERS


def test_figures_of_a_cluster_are_written_and_drawn(tmp_path: Path) -> None:
    cluster.write(tmp_path, {"4x2": 0.94, "16x1": 0.8, "join_s": 1.1}, 3.0)
    written = json.loads((tmp_path / "cluster.json").read_text())
    assert written["figures"]["4x2"] == 0.94
    texts = [node.text for node in ElementTree.parse(tmp_path / "cluster.svg").iter()]
    assert {"4x2", "16x1", "0.94", "0.80"} <= set(texts)
    assert "join_s" not in texts


def test_a_simulated_cluster_has_warm_cells_and_leaves_chains_where_they_are(
    tmp_path: Path,
) -> None:
    plans = [
        clustersim.Plan(workers=80, cell=10, seconds=5.0, routed=routed) for routed in (True, False)
    ]
    routed, random = (clustersim.figures(plan) for plan in plans)
    assert routed["warm"] > random["warm"]
    assert routed["moved"] < 0.5
    again = clustersim.figures(plans[0])
    assert {**again, "placing_ms": 0.0} == {**routed, "placing_ms": 0.0}
    clustersim.write(tmp_path, [{"routed": True, **routed}, {"routed": False, **random}])
    assert json.loads((tmp_path / "clustersim.json").read_text())[0]["workers"] == 80
    texts = [node.text for node in ElementTree.parse(tmp_path / "clustersim.svg").iter()]
    assert any(text and text.startswith("80 workers in cells") for text in texts)
