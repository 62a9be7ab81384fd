"""Several builds in one engine, and their memos, without steps and so without a sandbox [KEY-11]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.manybuilds import make_builds
from pybuild.builds.manymemos import Memos
from pybuild.builds.namedbuild import NamedBuild
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.exporter.output import Output
from pybuild.model.errors import UserError
from pybuild.model.events import Event, VertexAdded, VertexCached, VertexCompleted, VertexStarted
from pybuild.model.reference import Reference

LIB = b"FROM scratch\nCOPY f /lib\nENV FROM_LIB=1\n"
APP = b"FROM lib\nCOPY g /app\n"


@dataclass
class Site:
    """A store, and a directory for each of two builds: the second stands on the first."""

    root: Path
    library: Path
    app: Path
    events: list[Event] = field(default_factory=list[Event])

    def builds(self, text: bytes = APP, **asked: Any) -> dict[str, NamedBuild]:
        library = BuildRequest(context=str(self.library), dockerfile_text=LIB)
        app = BuildRequest(
            context=str(self.app),
            dockerfile_text=text,
            tags=(Reference.parse("app:1"),),
            **asked,
        )
        return {
            "lib": NamedBuild(request=library, flags={"x": ["lib"]}, is_delivered=False),
            "app": NamedBuild(request=app, flags={"x": ["app"]}, links={"lib": "lib"}),
        }

    def make(
        self, builds: Mapping[str, NamedBuild], answered: tuple[str, ...] = ()
    ) -> dict[str, BuildResult]:
        """Make the builds, and keep their memos."""
        self.events.clear()

        async def work() -> dict[str, BuildResult]:
            async with Engine(Settings(root=str(self.root))) as engine:
                memos = Memos(str(self.root), builds)
                return await make_builds(engine, builds, {}, self.events.append, memos, answered)

        return asyncio.run(work())

    def answers(self, builds: Mapping[str, NamedBuild]) -> dict[str, BuildResult]:
        self.events.clear()
        return Memos(str(self.root), builds).answers(self.events.append)

    def config(self, result: BuildResult) -> dict[str, Any]:
        assert result.image_id is not None
        config: dict[str, Any] = json.loads(
            (self.root / "blobs/sha256" / result.image_id.hex).read_bytes()
        )
        return config

    def names(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, VertexAdded)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name, file in (("l", "f"), ("a", "g")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(name)
    return Site(tmp_path / "store", tmp_path / "l", tmp_path / "a")


@pytest.fixture
def rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files are older than a tick of the clock."""

    def is_young(newest: int, looked: int) -> bool:
        return False

    monkeypatch.setattr("pybuild.builds.memo.is_young", is_young)


def test_a_build_stands_on_another_and_each_step_names_its_own(site: Site) -> None:
    results = site.make(site.builds())
    assert list(results) == ["app"]
    config = site.config(results["app"])
    assert "FROM_LIB=1" in config["config"]["Env"]
    assert len(config["rootfs"]["diff_ids"]) == 2
    names = site.names()
    assert "[app] exporting to image" in names
    assert any(name.startswith("[app ") and "COPY g /app" in name for name in names)
    assert any("COPY f /lib" in name for name in names)
    added = {event.vertex: event for event in site.events if isinstance(event, VertexAdded)}
    [copied] = [one for one, event in added.items() if "COPY f /lib" in event.name]
    [last] = [event for event in added.values() if "COPY g /app" in event.name]
    assert copied in last.inputs
    done = {event.vertex for event in site.events if isinstance(event, VertexCompleted)}
    assert done <= set(added)


def test_both_are_made_where_both_are_delivered_but_for_those_that_are_answered(site: Site) -> None:
    builds = site.builds()
    builds["lib"] = NamedBuild(request=builds["lib"].request)
    first = site.make(builds)
    assert sorted(first) == ["app", "lib"]
    assert len(site.config(first["lib"])["rootfs"]["diff_ids"]) == 1
    again = site.make(builds, ("lib",))
    assert list(again) == ["app"] and again["app"].image == first["app"].image


def test_the_build_that_fails_is_named_where_there_are_several(site: Site) -> None:
    with pytest.raises(UserError, match=r'^target app: "absent" is not in the context'):
        site.make(site.builds(b"FROM lib\nCOPY absent /\n"))
    alone = NamedBuild(
        request=BuildRequest(
            context=str(site.app), dockerfile_text=b"FROM scratch\nCOPY absent /\n"
        )
    )
    with pytest.raises(UserError, match='^"absent" is not in the context'):
        site.make({"alone": alone})


@pytest.mark.usefixtures("rested")
def test_builds_that_are_as_they_were_are_answered_by_memos(site: Site) -> None:
    builds = site.builds()
    assert site.answers(builds) == {}
    made = site.make(builds)["app"]
    answered = site.answers(builds)["app"]
    assert (answered.image, answered.image_id) == (made.image, made.image_id)
    assert answered.names == made.names == ("docker.io/library/app:1",)
    assert answered.metadata == made.metadata
    steps = dict(answered.steps)
    assert steps["exporting to image"] == "DONE 0.0s"
    assert [how for name, how in answered.steps if "COPY" in name] == ["CACHED", "CACHED"]
    shown = {event.vertex: event.name for event in site.events if isinstance(event, VertexAdded)}
    assert sorted(shown.values()) == sorted(
        f"[app {name[1:]}" if name.startswith("[") else f"[app] {name}"
        for name, _ in answered.steps
    )
    cached = {shown[event.vertex] for event in site.events if isinstance(event, VertexCached)}
    started = {shown[event.vertex] for event in site.events if isinstance(event, VertexStarted)}
    ended = {shown[event.vertex] for event in site.events if isinstance(event, VertexCompleted)}
    assert len(cached) == 2 and all("COPY" in name for name in cached)
    assert started == ended == set(shown.values()) - cached


@pytest.mark.usefixtures("rested")
@pytest.mark.parametrize("changed", ["a/g", "l/f"])
def test_a_build_is_made_again_after_a_change(site: Site, changed: str) -> None:
    builds = site.builds()
    image = site.make(builds)["app"].image
    assert image is not None
    assert site.answers(site.builds(APP + b"ENV A=1\n")) == {}
    for file in (site.root / "index.json", site.root / "blobs/sha256" / image.digest.hex):
        data = file.read_bytes()
        file.write_bytes(b'{"manifests": []}')
        assert site.answers(builds) == {}, file
        file.write_bytes(data)
    assert list(site.answers(builds)) == ["app"]
    (site.app.parent / changed).write_text("other")
    assert site.answers(builds) == {}


@pytest.mark.parametrize(
    "asked",
    [
        {"secrets": {"s": object()}},
        {"ssh": (object(),)},
        {"policies": object()},
        {"allow": ("network.host",)},
        {"cache_to": (object(),)},
        {"no_cache": True},
        {"no_cache_filter": ("x",)},
        {"max_ages": {"": 1.0}},
        {"pull": True},
        {"attestations": object()},
        {"fail_on_miss": True},
        {"outputs": (Output(type="oci", dest="/x"),)},
    ],
)
def test_a_build_that_does_more_has_no_memo(site: Site, asked: dict[str, Any]) -> None:
    memos = Memos(str(site.root), site.builds(**asked))
    assert memos.words("app") is None
    assert memos.words("lib") is not None


def test_words_have_the_text_and_the_builds_that_are_read(site: Site) -> None:
    words = Memos(str(site.root), site.builds()).words("app")
    assert words is not None
    assert words.positionals == [str(site.app)]
    assert words.one("x") == "app" and words.one("y", "default") == "default"
    assert sorted(words.values) == ["dockerfile-text", "links", "x"]
    assert words.values["links"][0].startswith("lib=")
    library = BuildRequest(context=str(site.library), dockerfile_text=LIB)
    assert Memos(str(site.root), {"lib": NamedBuild(request=library)}).words("lib") is None
    unread = {**site.builds(), "lib": NamedBuild(request=library)}
    assert Memos(str(site.root), unread).words("app") is None
