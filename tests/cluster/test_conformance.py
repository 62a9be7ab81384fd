"""Every conformance case that builds gives the same image from one machine and from three workers.

Cases that fail do so with the same words. A case about the cache is built once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.builds.build import build
from pybuild.builds.request import BuildRequest
from pybuild.builds.requestvalues import parse_secret
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.exporter.output import Output
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.ops import NetworkMode, StepSettings
from pybuild.model.platform import Platform
from tests.cluster.rig import Site, run_site
from tests.conformance.cases import Case, lay_out, load_cases, make_base
from tests.executor.sandbox_helpers import skip_unless_possible
from tests.needs import need

CASES = load_cases()
SECTIONS = sorted({case.section for case in CASES})


async def outcome(engine: Engine, case: Case, where: Path, base: Path) -> str:
    """Return the digest of a case's image, or its error."""
    laid = lay_out(case.build, where, base)
    given = case.build
    request = BuildRequest(
        context=str(laid.context),
        dockerfile=str(laid.dockerfile) if given.dockerfile_name != "Dockerfile" else "",
        target=given.target,
        build_args={"SOURCE_DATE_EPOCH": "0", **given.args},
        named_contexts=laid.contexts,
        platforms=(Platform.parse(given.platform),) if given.platform else (),
        labels=given.labels,
        steps=StepSettings(network=NetworkMode(given.network or "default")),
        secrets={
            name: parse_secret(f"id={name},src={path}") for name, path in laid.secrets.items()
        },
        no_cache=given.no_cache,
        outputs=(Output(type="image", attrs={"rewrite-timestamp": "true"}),),
    )
    try:
        result = await build(engine, request, lambda event: None)
    except Exception as raised:
        error = unwrap(raised)
        if not isinstance(error, PybuildError):
            raise
        return f"error: {error.message}".replace(str(where), "WHERE")
    assert result.image is not None
    return str(result.image.digest)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.parametrize("section", SECTIONS)
def test_three_workers_make_the_images_of_one_machine(tmp_path: Path, section: str) -> None:
    skip_unless_possible()
    if os.geteuid():
        pytest.skip("needs root: cases have owners and device nodes")
    need("busybox")
    base = make_base(tmp_path / "base")
    cases = [case for case in CASES if case.section == section]
    both: dict[str, tuple[str, str]] = {}

    async def work(site: Site) -> None:
        async with Engine(Settings(root=str(tmp_path / "alone"))) as alone:
            for case in cases:
                one = await outcome(alone, case, tmp_path / "one" / case.name, base)
                three = await outcome(site.engine, case, tmp_path / "three" / case.name, base)
                both[case.name] = one, three
        ran = sum(len(os.listdir(worker.root / "snapshots")) for worker in site.workers.values())
        assert ran, "no worker did anything"

    run_site(tmp_path / "store", {"a": 2, "b": 2, "c": 2}, work)
    differing = {name: pair for name, pair in both.items() if pair[0] != pair[1]}
    built = sum(one.startswith("sha256:") for one, _ in both.values())
    print(f"{section}: {built} of {len(cases)} cases build, {len(differing)} differ")
    assert not differing
    assert built
