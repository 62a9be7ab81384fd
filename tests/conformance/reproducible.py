"""Builds every conformance case and example twice, on two stores, with 1 and with 8 steps at once.

    python -m tests.conformance.reproducible [-k TEXT]

The digests must be equal: of all that have no randomness of their own (`RANDOM` says which have,
and why). Needs root and busybox, as the cases do [issue 6, show 7; REP].
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pybuild.builds import build as builds
from pybuild.builds.request import BuildRequest
from pybuild.builds.requestvalues import parse_secret
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.exporter.output import Output
from pybuild.image.compare import ImageDifference, compare_layouts
from pybuild.model.errors import InternalError, PybuildError, unwrap
from pybuild.model.events import Event
from pybuild.model.ops import NetworkMode, StepSettings
from pybuild.model.platform import Platform
from tests.conformance.cases import Build, lay_out, load_cases, make_base
from tests.harness import ROOT

EPOCH = "1700000000"
THREADS = (1, 8)
RANDOM: dict[str, str] = {}
"""Cases whose steps write what no two runs have in common, and what that is."""
_EXAMPLES = {"shell": {"BASE": "base"}}
"""Those that need no network, and their build arguments; what else they need is in `base`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The results of two builds of one thing; an error is the same on both sides or it is told."""

    name: str
    outcomes: tuple[str, str]
    differences: tuple[ImageDifference, ...] = ()

    @property
    def is_same(self) -> bool:
        return self.outcomes[0] == self.outcomes[1]


class Machines:
    """Two engines that have nothing in common but this process. An async context manager."""

    def __init__(self, where: Path) -> None:
        self._where = where
        self._stack = AsyncExitStack()
        self._engines: list[Engine] = []
        self.base = make_base(where / "base")

    async def __aenter__(self) -> Self:
        for count in THREADS:
            settings = Settings(root=str(self._where / f"store-{count}"), max_parallelism=count)
            self._engines.append(await self._stack.enter_async_context(Engine(settings)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def compare(self, name: str, build: Build) -> Compared:
        """Build on both, one after the other, each from files of its own."""
        places = [self._where / f"{number}" for number, _ in enumerate(self._engines)]
        try:
            outcomes = [
                await _outcome(engine, build, place, self.base)
                for engine, place in zip(self._engines, places, strict=True)
            ]
            found: tuple[ImageDifference, ...] = ()
            if outcomes[0] != outcomes[1] and all(one.startswith("sha256:") for one in outcomes):
                found = tuple(compare_layouts(*(str(place / "out") for place in places)))
            return Compared(name=name, outcomes=(outcomes[0], outcomes[1]), differences=found)
        finally:
            for place in places:
                shutil.rmtree(place, ignore_errors=True)


async def _outcome(engine: Engine, build: Build, where: Path, base: Path) -> str:
    laid = lay_out(build, where, base)
    attrs = {"tar": "false", "rewrite-timestamp": "true"}
    request = BuildRequest(
        context=str(laid.context),
        dockerfile=str(laid.dockerfile) if build.dockerfile_name != "Dockerfile" else "",
        target=build.target,
        build_args={"SOURCE_DATE_EPOCH": EPOCH, **build.args},
        named_contexts=laid.contexts,
        platforms=(Platform.parse(build.platform),) if build.platform else (),
        labels=build.labels,
        steps=StepSettings(network=NetworkMode(build.network or "default")),
        secrets={
            name: parse_secret(f"id={name},src={path}") for name, path in laid.secrets.items()
        },
        no_cache=build.no_cache,
        outputs=(Output(type="oci", dest=str(where / "out"), attrs=attrs),),
    )
    try:
        result = await builds.build(engine, request, _unseen)
    except Exception as raised:
        error = unwrap(raised)
        if not isinstance(error, PybuildError) or isinstance(error, InternalError):
            raise
        # A snapshot's name is nothing but a name, and no two stores have the same.
        message = re.sub(r"of ref [0-9a-z]+:", "of ref X:", error.message)
        return "error: " + message.replace(str(where), "WHERE")
    assert result.image is not None
    return result.image.digest


def _unseen(_event: Event) -> None:
    pass


def subjects() -> list[tuple[str, Build]]:
    """Return the things to build: the cases' first builds, and the examples."""
    found = [(case.name, case.build) for case in load_cases()]
    for name, args in _EXAMPLES.items():
        folder = ROOT / "examples" / name
        files = {
            str(path.relative_to(folder)): {
                "bytes": path.read_bytes().hex(),
                "mode": path.stat().st_mode & 0o777,
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "Dockerfile"
        }
        text = (folder / "Dockerfile").read_text()
        found.append((f"example {name}", Build(dockerfile=text, files=files, args=args)))
    return found


async def _all(chosen: list[tuple[str, Build]], where: Path) -> list[Compared]:
    async with Machines(where) as machines:
        return [await machines.compare(name, build) for name, build in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only what has this in its name")
    chosen = [(name, build) for name, build in subjects() if parser.parse_args().k in name]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pybuild-reproducible-") as where:
        compared = asyncio.run(_all(chosen, Path(where)))
    images = [one for one in compared if one.outcomes[0].startswith("sha256:")]
    odd = [one for one in compared if not one.is_same and one.name not in RANDOM]
    for one in odd:
        print(f"{one.name}: {one.outcomes[0]}, then {one.outcomes[1]}")
        for difference in one.differences[:10]:
            print(f"    {difference}")
    stale = [one.name for one in compared if one.is_same and one.name in RANDOM]
    for name in stale:
        print(f"{name}: is the same after all ({RANDOM[name]})")
    print(
        f"{len(compared)} builds on two stores with {THREADS[0]} and {THREADS[1]} steps at once in "
        f"{time.monotonic() - began:.0f} s: {len(images)} images, {len(odd)} differ, "
        f"{len(RANDOM)} have randomness of their own; {len(compared) - len(images)} fail, as they should"
    )
    return 1 if odd or stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
