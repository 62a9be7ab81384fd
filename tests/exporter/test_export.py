"""Images made of results whose layers are known, named in a real store [OUT-9..15, REP-2, REP-3]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.cache.disk.atomic import Disk
from pybuild.cache.records.layers import keep_layer
from pybuild.cache.store import Store
from pybuild.engine.progress import InternalStep
from pybuild.executor.files.values import ExportTree
from pybuild.exporter.built import Built, Exported, MadeImage
from pybuild.exporter.export import export_all, keep_image, make_image, push, succeeding
from pybuild.exporter.imagemaker import REWRITTEN
from pybuild.exporter.mountsources import known_places, note_pushed
from pybuild.exporter.output import Output
from pybuild.frontend.lowering.interface import HistoryItem, Lowered
from pybuild.image.manifest import build_index
from pybuild.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.events import Event, VertexLog, VertexProgress
from pybuild.model.layerfacts import LayerFacts, WrittenLayer
from pybuild.model.ops import ScratchSource, Vertex
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.reference import Reference
from pybuild.model.snapshot import Snapshot
from tests.registry.fakes import WallClock

ARM64 = Platform.parse("linux/arm64")
ANY = Vertex(ScratchSource())


class Site:
    """A store with an engine around it, and what a step says."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.engine = cast(Any, SimpleNamespace(store=store, clock=WallClock()))
        self.events: list[Event] = []
        self.step = InternalStep(Digest.of(b"step"), self.events.append, WallClock())

    def layer(self, delta: str, created: float = 100.0, **facts: Any) -> Descriptor:
        data = f"layer {delta}".encode()
        layer = Descriptor(OCI_LAYER_GZIP, self.store.blobs.put(data), len(data))
        known = LayerFacts(
            diff_id=Digest.of(delta.encode()),
            created=created,
            blobs={"gzip-None": WrittenLayer(layer)},
            **facts,
        )
        keep_layer(self.store.records, delta, known)
        return layer

    def make(self, output: Output, *built: Built) -> MadeImage:
        return asyncio.run(make_image(self.engine, output, built, self.step))

    def keep(self, output: Output, made: MadeImage, *names: str) -> None:
        references = [Reference.parse(name) for name in names]
        asyncio.run(keep_image(self.engine, output, made, references, self.step, None))

    def document(self, descriptor: Descriptor) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.store.blobs.read(descriptor.digest))
        return body

    def config(self, made: MadeImage) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.store.blobs.read(made.image_id))
        return body

    def said(self) -> list[str]:
        return [one.data.decode().strip() for one in self.events if isinstance(one, VertexLog)]

    def did(self) -> list[str]:
        return [one.id for one in self.events if isinstance(one, VertexProgress) and one.done]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Store.open(str(tmp_path / "store"), WallClock(), disk=Disk("named")) as store:
        yield Site(store)


def built(
    *deltas: str,
    platform: Platform = LINUX_AMD64,
    base: int = 0,
    epoch: int | None = None,
    history: tuple[HistoryItem, ...] = (),
    **more: Any,
) -> Built:
    config = {"os": platform.os, "architecture": platform.arch, **more.pop("config", {})}
    lowered = Lowered(
        result=ANY,
        config=config,
        base_layer_count=base,
        history=history,
        contexts=frozenset(),
        platform=platform,
        epoch=epoch,
    )
    return Built(lowered=lowered, result=Snapshot(deltas), **more)


IMAGE, DOCKER = Output(type="image"), Output(type="docker")
RUN, ENV = HistoryItem(created_by="RUN", vertex=ANY), HistoryItem(created_by="ENV")


def test_an_image_has_the_layers_of_its_tree_and_the_entries_of_its_steps(site: Site) -> None:
    layers = [site.layer("base", 50.0), site.layer("d")]
    made = site.make(IMAGE, built("base", "d", base=1, history=(ENV, RUN)))
    assert (made.descriptor.media_type, made.epoch) == (OCI_MANIFEST, None)
    assert made.descriptor.platform == LINUX_AMD64
    manifest = site.document(made.descriptor)
    assert [entry["digest"] for entry in manifest["layers"]] == [one.digest for one in layers]
    assert manifest["config"]["mediaType"] == OCI_CONFIG
    assert manifest["config"]["digest"] == made.image_id
    config = site.config(made)
    assert config["rootfs"]["diff_ids"] == [Digest.of(b"base"), Digest.of(b"d")]
    own = config["history"][-2:]
    assert [entry["created_by"] for entry in own] == ["ENV", "RUN"]
    assert [entry.get("empty_layer", False) for entry in own] == [True, False]
    assert own[1]["created"] == "1970-01-01T00:01:40Z"
    assert f"exporting manifest {made.descriptor.digest}" in site.did()
    assert f"exporting config {made.image_id}" in site.did()


def test_layers_of_the_base_are_counted_from_the_top_where_nobody_knows(site: Site) -> None:
    for delta in ("base", "d"):
        site.layer(delta)
    known = site.make(IMAGE, built("base", "d", base=1, history=(RUN,)))
    counted = site.make(IMAGE, built("base", "d", base=-1, history=(RUN,)))
    assert known.descriptor == counted.descriptor


def test_docker_s_types_are_docker_s(site: Site) -> None:
    made = site.make(DOCKER, built())
    assert made.descriptor.media_type == DOCKER_MANIFEST
    assert site.document(made.descriptor)["config"]["mediaType"] == DOCKER_CONFIG
    both = site.make(DOCKER, built(), built(platform=ARM64))
    assert both.descriptor.media_type == DOCKER_INDEX
    assert site.document(both.descriptor)["mediaType"] == DOCKER_INDEX


def test_entries_have_the_time_that_somebody_said(site: Site) -> None:
    site.layer("d")
    said = replace(ENV, created="1970-01-01T00:00:07Z", comment="c", author="a")
    history = (said, RUN)
    made = site.make(IMAGE, built("d", history=history, epoch=90))
    entries = site.config(made)["history"]
    assert [entry["created"] for entry in entries] == [
        "1970-01-01T00:00:07Z",
        "1970-01-01T00:01:30Z",
    ]
    assert (entries[0]["comment"], entries[0]["author"]) == ("c", "a")
    assert made.epoch == 90


def test_an_image_has_a_date_where_all_its_platforms_have_the_same(site: Site) -> None:
    def epoch(one: int | None, other: int | None, **attrs: str) -> int | None:
        output = Output(type="image", attrs=attrs)
        both = built(epoch=one), built(platform=ARM64, epoch=other)
        return site.make(output, *both).epoch

    assert (epoch(5, 5), epoch(5, 6), epoch(5, None), epoch(None, None)) == (5, None, None, None)
    assert epoch(5, 6, **{"source-date-epoch": "7"}) == 7


def test_layers_whose_times_are_clamped_say_so(site: Site) -> None:
    plain = site.layer("base")
    clamped = Descriptor(OCI_LAYER_GZIP, site.store.blobs.put(b"clamped"), 7)
    rewritten = {"gzip-None-50": WrittenLayer(clamped, Digest.of(b"other"))}
    site.layer("d", rewritten=rewritten)
    output = Output(type="image", attrs={"rewrite-timestamp": "true"})
    made = site.make(output, built("base", "d", base=1, history=(RUN,), epoch=50))
    layers = site.document(made.descriptor)["layers"]
    assert [layer["digest"] for layer in layers] == [plain.digest, clamped.digest]
    assert [layer.get("annotations") for layer in layers] == [None, {REWRITTEN: "50"}]
    assert site.config(made)["rootfs"]["diff_ids"] == [Digest.of(b"base"), Digest.of(b"other")]
    assert site.said() == []
    without = site.make(output, built("base", "d", base=1, history=(RUN,)))
    assert site.document(without.descriptor)["layers"][1]["digest"] != clamped.digest
    assert site.said() == ["rewrite-timestamp is specified, but no source-date-epoch was found"]


def test_the_cache_of_a_base_is_not_inherited_and_an_own_one_is_carried(site: Site) -> None:
    site.layer("d")
    field = "moby.buildkit.cache.v0"
    inherited = site.make(IMAGE, built("d", history=(RUN,), config={field: "old"}))
    assert field not in site.config(inherited)
    seen: list[dict[str, Digest]] = []

    def inline(layers: Any) -> str:
        seen.append(dict(layers))
        return "new" if len(seen) == 1 else ""

    for expected in ("new", None):
        made = site.make(IMAGE, built("d", history=(RUN,), inline_cache=inline))
        assert site.config(made).get(field) == expected
    assert seen == [{"d": Digest.of(b"d")}] * 2


def test_several_platforms_make_an_index_and_so_does_one_that_is_to_be_of_many(site: Site) -> None:
    amd, arm = built(), built(platform=ARM64)
    alone = site.make(IMAGE, amd)
    index = site.make(IMAGE, amd, arm)
    assert index.descriptor.media_type == OCI_INDEX
    assert index.image_id == index.descriptor.digest
    children = site.document(index.descriptor)["manifests"]
    assert [child["platform"] for child in children] == [
        LINUX_AMD64.to_json(),
        ARM64.to_json(),
    ]
    assert children[0]["digest"] == alone.descriptor.digest
    one = site.make(IMAGE, replace(amd, is_one_of_many=True))
    assert one.descriptor.media_type == OCI_INDEX
    assert one.image_id == alone.image_id
    assert f"exporting manifest list {one.descriptor.digest}" in site.did()


def test_annotations_are_where_they_belong(site: Site) -> None:
    attrs = {
        "annotation.m": "1",
        "annotation-manifest[linux/arm64].own": "2",
        "annotation-manifest-descriptor.d": "3",
        "annotation-index.i": "4",
        "annotation-index-descriptor.x": "5",
        "annotation-manifest[linux/s390x].none": "6",
    }
    output = Output(type="image", attrs=attrs)
    made = site.make(output, built(), built(platform=ARM64))
    index = site.document(made.descriptor)
    assert (index["annotations"], made.descriptor.annotations) == ({"i": "4"}, {"x": "5"})
    notes: list[dict[str, str]] = []
    for child in index["manifests"]:
        assert child["annotations"] == {"d": "3"}
        notes.append(json.loads(site.store.blobs.read(Digest(child["digest"])))["annotations"])
    assert notes == [{"m": "1"}, {"m": "1", "own": "2"}]
    assert site.said() == ["warning: no linux/s390x in the image: annotation none is left out"]
    for name in ("annotation-index.i", "annotation-index-descriptor.x"):
        alone = Output(type="image", attrs={name: "4"})
        with pytest.raises(UsageError, match="^index annotations not supported for single") as e:
            site.make(alone, built())
        assert len(e.value.hints) == 2
    assert site.make(Output(type="image", attrs={"annotation.m": "1"}), built())


def test_an_image_is_named_in_the_store(site: Site) -> None:
    made = site.make(IMAGE, built())
    digest = made.descriptor.digest
    site.keep(IMAGE, made, "a:1", "b:2")
    for name in ("docker.io/library/a:1", "docker.io/library/b:2"):
        assert site.store.images.resolve(name) == made.descriptor
        assert f"naming to {name}" in site.did()
    assert f"naming to docker.io/library/a@{digest}" not in site.did()
    site.keep(Output(type="image", attrs={"name-canonical": "true"}), made, "c:1", "c:2")
    named = [line for line in site.did() if "/c" in line]
    assert named == [
        "naming to docker.io/library/c:1",
        "naming to docker.io/library/c:2",
        f"naming to docker.io/library/c@{digest}",
    ]


def test_an_image_without_a_name_dangles_and_one_that_is_not_kept_is_nowhere(site: Site) -> None:
    made = site.make(IMAGE, built())
    site.keep(Output(type="image", attrs={"store": "false"}), made, "a:1")
    site.keep(Output(type="image", attrs={"store": "false"}), made)
    assert site.store.images.resolve("docker.io/library/a:1") is None
    assert site.store.images.resolve(made.image_id) is None
    site.keep(IMAGE, made)
    assert site.store.images.resolve(made.image_id) is not None


def test_an_image_that_goes_by_digest_has_no_tag(site: Site) -> None:
    made = site.make(IMAGE, built())
    output = Output(type="image", attrs={"push-by-digest": "true"})
    with pytest.raises(UsageError, match="can't push tagged ref"):
        site.keep(output, made, "a:1")
    site.keep(output, made, "a")
    assert site.did()[-1] == f"naming to docker.io/library/a@{made.descriptor.digest}"
    assert site.store.images.resolve("docker.io/library/a:latest") is None


def test_what_has_no_name_is_not_pushed(site: Site) -> None:
    made = site.make(IMAGE, built())
    with pytest.raises(UsageError, match="^tag is needed when pushing to registry$") as caught:
        asyncio.run(push(site.engine, made.descriptor, [], site.step))
    assert caught.value.hints == ("name the image with -t",)


def test_layers_of_no_known_step_have_the_times_they_were_made_at(site: Site) -> None:
    """As the results of definitions have them that say nothing of an image."""
    for delta, created in (("d", 10.0), ("e", 20.0)):
        site.layer(delta, created)
    config = site.config(site.make(IMAGE, built("d", "e")))
    times = ["1970-01-01T00:00:10Z", "1970-01-01T00:00:20Z"]
    comment = "buildkit.exporter.image.v0"
    assert config["history"] == [{"created": time, "comment": comment} for time in times]
    assert config["created"] == times[1]


def test_a_push_says_when_the_layers_are_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients look for these words."""
    made = site.make(IMAGE, built())

    @asynccontextmanager
    async def client_for(_: object) -> AsyncGenerator[None]:
        yield

    async def push_image(*_: object, **more: object) -> None:
        assert "pushing layers" not in site.did()

    monkeypatch.setattr("pybuild.registry.client.push.push_image", push_image)
    site.engine.client_for = client_for
    name = Reference.parse("reg.example/a:1")
    asyncio.run(push(site.engine, made.descriptor, [name], site.step))
    done = ["pushing layers", f"pushing manifest for {name}@{made.descriptor.digest}"]
    assert site.did()[-2:] == done


class Folders:
    """A place that notes where the trees of a directory go."""

    def __init__(self) -> None:
        self.trees: list[tuple[str, str]] = []

    def title(self, output: Output) -> str:
        return output.title

    def is_repeatable(self, output: Output) -> bool:
        return False

    async def directory(
        self, output: Output, trees: Sequence[ExportTree], step: InternalStep
    ) -> None:
        self.trees += [(tree.folder, tree.name) for tree in trees]


@pytest.mark.parametrize(
    ("attrs", "folders"),
    [
        ({}, ["linux_amd64", "linux_arm64"]),
        ({"platform-split": "false"}, ["", ""]),
    ],
)
def test_trees_of_several_platforms_have_folders_unless_they_share_one(
    site: Site, attrs: dict[str, str], folders: list[str]
) -> None:
    async def tree(lowers: Sequence[str]) -> ExportTree:
        return ExportTree(tuple(lowers), mount_dir="", userxattr=False)

    async def ensure(deltas: Sequence[str], emit: object) -> list[str]:
        return list(deltas)

    site.engine.layers = lambda: SimpleNamespace(ensure=ensure)
    site.engine.export_tree = tree
    place = Folders()
    results = [built("a", is_one_of_many=True), built("b", platform=ARM64, is_one_of_many=True)]
    output = Output(type="local", dest="out", attrs=attrs)
    work = export_all(
        site.engine, [output], [], results, site.events.append, lambda number: cast(Any, place)
    )
    asyncio.run(work)
    assert place.trees == list(zip(folders, ["linux/amd64", "linux/arm64"], strict=True))


def test_every_output_leaves_its_trace(site: Site) -> None:
    def no_sink(number: int) -> Any:
        raise AssertionError(f"output {number} needs no place")

    def export(outputs: list[Output], *results: Built) -> list[Exported]:
        tags = [Reference.parse("a:1")]
        work = export_all(site.engine, outputs, tags, results, site.events.append, no_sink)
        return asyncio.run(work)

    nothing, image = export([Output(type="cacheonly"), IMAGE], built())
    assert nothing == Exported()
    assert image.names == ("docker.io/library/a:1",)
    assert image.made is not None
    assert image.metadata["containerimage.digest"] == image.made.descriptor.digest
    with pytest.raises(UserError, match="^no tree to make an image of$"):
        export([IMAGE])


def test_the_last_result_may_go_where_a_newer_one_is_kept() -> None:
    origins: list[object] = []

    class Budget:
        def succeeding(self, origin: object) -> object:
            origins.append(origin)
            return nullcontext()

    def begun(store: object, *outputs: Output) -> int:
        origins.clear()
        with succeeding(cast(Store, store), outputs, ("c", "D", "")):
            return len(origins)

    small, large = SimpleNamespace(budget=Budget()), SimpleNamespace(budget=None)
    away = Output(type="image", attrs={"store": "false"})
    assert begun(small, Output(type="tar"), IMAGE) == 1
    assert begun(small, Output(type="registry")) == 1
    assert begun(large, IMAGE) == 0
    assert begun(small) == begun(small, away) == begun(small, Output(type="oci")) == 0


# --- places to mount from -------------------------------------------------------------------------


def test_repositories_that_have_a_layer_are_known_the_newest_first(site: Site) -> None:
    layer = site.layer("d")
    made = site.make(IMAGE, built("d", history=(RUN,)))

    def pushed(*names: str) -> list[str]:
        note_pushed(site.store, made.descriptor, [Reference.parse(name) for name in names])
        return known_places(site.store, made.descriptor).get(layer.digest, [])

    assert known_places(site.store, made.descriptor) == {}
    assert pushed("r.example/a:1", "r.example/b") == ["r.example/a", "r.example/b"]
    assert pushed("r.example/b:2") == ["r.example/b", "r.example/a"]
    many = [f"r.example/n{number}" for number in range(9)]
    assert pushed(*many) == many[:8]


def test_where_a_layer_was_pulled_from_is_the_likeliest_place(site: Site) -> None:
    layer = site.layer("d")
    made = site.make(IMAGE, built("d", history=(RUN,)))
    diff_id = Digest.of(b"d")
    facts = LayerFacts(diff_id=diff_id, reference="r.example/base:1")
    keep_layer(site.store.records, f"sha256-{diff_id.hex}", facts)
    note_pushed(site.store, made.descriptor, [Reference.parse("r.example/a")])
    expected = {layer.digest: ["r.example/base", "r.example/a"]}
    assert known_places(site.store, made.descriptor) == expected
    absent = Descriptor(OCI_MANIFEST, Digest.of(b"absent"), 6)
    data = build_index([made.descriptor, absent])
    index = Descriptor(OCI_INDEX, site.store.blobs.put(data), len(data))
    assert known_places(site.store, index) == expected
