"""Builds from their text to their outputs, in this process: without steps, so without a sandbox [2.1]."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.build import build
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.builds.verify import verify
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.explain.account import MissRefused
from pybuild.exporter.attest.options import AttestOptions, Provenance
from pybuild.exporter.output import parse_output
from pybuild.model.errors import UserError
from pybuild.model.events import Event, VertexAdded, VertexCached
from pybuild.model.reference import Reference
from pybuild.progress.render import text as rendered
from pybuild.remotecache.options import CacheFrom, CacheTo

NAME = Reference.parse("app:1")
COPY = b"FROM scratch\nCOPY f /d/\n"


@dataclass
class Site:
    """A store, and a directory to build."""

    root: Path
    context: Path
    events: list[Event] = field(default_factory=list[Event])

    def build(self, dockerfile: bytes = COPY, **asked: Any) -> BuildResult:
        self.events.clear()
        request = BuildRequest(context=str(self.context), dockerfile_text=dockerfile, **asked)

        async def work() -> BuildResult:
            async with Engine(Settings(root=str(self.root))) as engine:
                return await build(engine, request, self.events.append)

        return asyncio.run(work())

    def names(self) -> list[str]:
        """The steps that were shown, by their names."""
        return [event.name for event in self.events if isinstance(event, VertexAdded)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/f").write_text("1")
    return Site(tmp_path / "store", tmp_path / "c")


@pytest.mark.slow
def test_an_image_stays_in_the_store_under_its_names(site: Site) -> None:
    first = site.build(tags=(NAME,))
    assert first.names == ("docker.io/library/app:1",)
    assert first.image is not None and first.image_id is not None
    assert [name for name, _ in first.steps] == ["[1/1] COPY f /d/"]
    assert [how for _, how in first.steps] == ["DONE"]
    again = site.build(tags=(NAME,))
    assert (again.image, again.image_id) == (first.image, first.image_id)
    assert [how for _, how in again.steps] == ["CACHED"]
    assert sum(isinstance(event, VertexCached) for event in site.events) == 1
    (site.context / "f").write_text("2")
    other = site.build()
    assert other.image_id != first.image_id and other.names == ()


def test_metadata_says_what_was_made(site: Site) -> None:
    result = site.build(tags=(NAME,))
    assert result.image is not None
    assert result.metadata["containerimage.digest"] == result.image.digest
    assert result.metadata["containerimage.config.digest"] == result.image_id
    assert result.metadata["image.name"] == "docker.io/library/app:1"


def test_a_result_goes_to_several_places(site: Site, tmp_path: Path) -> None:
    outputs = (
        parse_output(f"type=local,dest={tmp_path}/out"),
        parse_output(f"type=tar,dest={tmp_path}/out.tar"),
        parse_output(f"type=oci,dest={tmp_path}/oci.tar"),
        parse_output(f"type=docker,name=app:1,dest={tmp_path}/docker.tar"),
    )
    site.build(outputs=outputs)
    assert (tmp_path / "out/d/f").read_text() == "1"
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getnames() == ["d", "d/f"]
    with tarfile.open(tmp_path / "oci.tar") as archive:
        assert {"oci-layout", "index.json"} <= set(archive.getnames())
    with tarfile.open(tmp_path / "docker.tar") as archive:
        [image] = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        assert image["RepoTags"] == ["app:1"]
    titles = [name for name in site.names() if name.startswith("exporting")]
    assert titles == [
        "exporting to client directory",
        "exporting to client tarball",
        "exporting to oci image format",
        "exporting to docker image format",
    ]


def test_nothing_is_kept_of_a_result_that_goes_elsewhere(site: Site, tmp_path: Path) -> None:
    result = site.build(outputs=(parse_output(f"type=local,dest={tmp_path}/out"),))
    assert result.image is None and result.names == ()
    entries = json.loads((site.root / "index.json").read_text())["manifests"]
    assert entries == []


def test_a_result_without_files_is_an_image(site: Site) -> None:
    result = site.build(b"FROM scratch\nENV A=1\n", tags=(NAME,))
    assert result.image is not None and result.steps == ()


def test_a_step_that_would_run_is_refused_and_named(site: Site) -> None:
    site.build()
    assert site.build(fail_on_miss=True).steps[0][1] == "CACHED"
    (site.context / "f").write_text("2")
    with pytest.raises(MissRefused) as caught:
        site.build(fail_on_miss=True)
    assert "COPY f /d/" in caught.value.message
    assert "f" in caught.value.message.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{"no_cache": True}, {"no_cache_filter": ("last",)}])
def test_a_build_without_cache_forgets_memos(site: Site, asked: dict[str, Any]) -> None:
    text = b"FROM scratch AS last\nCOPY f /d/\n"
    site.build(text)
    (site.root / "memo").mkdir(exist_ok=True)
    (site.root / "memo/x").write_text("{}")
    assert site.build(text).steps[0][1] == "CACHED"
    assert (site.root / "memo/x").exists()
    assert site.build(text, **asked).steps[0][1] == "DONE"
    assert not (site.root / "memo/x").exists()


def test_the_history_says_why_a_step_ran(site: Site) -> None:
    assert site.build(tags=(NAME,)).report is not None
    (site.context / "f").write_text("2")
    report = site.build(tags=(NAME,)).report
    assert report is not None
    assert "f" in str(report)


def test_an_error_shows_the_lines_that_it_is_about(site: Site) -> None:
    with pytest.raises(UserError) as caught:
        site.build(b"FROM scratch\nCOPY absent /d/\n")
    shown = rendered(caught.value)
    assert shown.startswith('error: "absent" is not in the context')
    assert ">>> COPY absent /d/" in shown and "Dockerfile:2" in shown


def test_provenance_is_part_of_an_index(site: Site) -> None:
    options = AttestOptions(provenance=Provenance(full=True))
    result = site.build(tags=(NAME,), attestations=options)
    assert result.image is not None
    blobs = site.root / "blobs/sha256"
    index = json.loads((blobs / result.image.digest.hex).read_text())
    kinds = [entry.get("annotations", {}) for entry in index["manifests"]]
    assert [note.get("vnd.docker.reference.type") for note in kinds] == [
        None,
        "attestation-manifest",
    ]


def test_a_cache_is_carried_in_a_directory(site: Site, tmp_path: Path) -> None:
    place = str(tmp_path / "cache")
    site.build(cache_to=(CacheTo(type="local", dest=place, everything=True),))
    assert os.listdir(place)
    other = Site(tmp_path / "other", site.context)
    result = other.build(cache_from=(CacheFrom(type="local", src=place),))
    assert [how for _, how in result.steps] == ["CACHED"]


def test_named_contexts_are_read(site: Site, tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n/g").write_text("named")
    out = parse_output(f"type=local,dest={tmp_path}/out")
    text = b"FROM scratch\nCOPY --from=n g /\n"
    site.build(text, named_contexts={"n": str(tmp_path / "n")}, outputs=(out,))
    assert (tmp_path / "out/g").read_text() == "named"


def test_two_builds_without_a_cache_are_the_same(site: Site) -> None:
    request = BuildRequest(context=str(site.context), dockerfile_text=COPY)
    told: list[str] = []

    def emit(which: str) -> Callable[[Event], None]:
        told.append(which)
        return lambda event: None

    verdict = asyncio.run(verify(Settings(root=str(site.root)), request, emit))
    assert verdict.is_same and verdict.differences == ()
    assert told == ["first", "second"]
    assert not [name for name in os.listdir(site.root / "tmp") if "verify" in name]
