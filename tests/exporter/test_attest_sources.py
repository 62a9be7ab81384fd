"""Materials: what a graph was made from, and what is kept out of it [ATT-2]."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pybuild.executor.proxies.record import Uncaptured
from pybuild.exporter.attest.sources import StepRequests, UsedImage, UsedSources, sources_of
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    Mount,
    MountType,
    NetworkMode,
    ScratchSource,
    StepSettings,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.model.secrets import without_secrets

COMMIT, SHA256 = "c0" * 20, "5a" * 32
MANIFEST = Digest.of(b"manifest")


REQUESTS: StepRequests = ({"http://h/a": SHA256}, [Uncaptured("POST", "http://h/b", "why")])


class Pins:
    async def commit(self, op: GitSource) -> str:
        return COMMIT

    async def sha256(self, op: HttpSource) -> str:
        return SHA256

    def local_name(self, op: LocalSource) -> str:
        return f"client-{op.name}"

    def requests(self, vertex: Vertex) -> StepRequests | None:
        return REQUESTS if vertex.meta.name == "known" else None


def found(vertex: Vertex, *images: UsedImage) -> UsedSources:
    return asyncio.run(sources_of([vertex], Pins(), images))


def image(reference: str) -> Vertex:
    parsed = Reference.parse(reference)
    return Vertex(ImageSource(digest=MANIFEST, reference=parsed, platform=LINUX_AMD64))


def run(base: Vertex, *mounts: Mount, network: NetworkMode = NetworkMode.DEFAULT) -> Vertex:
    op = ExecOp(
        args=("true",),
        env=(),
        cwd="/",
        mounts=(Mount(target="/", input=0), *mounts),
        platform=LINUX_AMD64,
        settings=StepSettings(network=network),
    )
    return Vertex(op, (base,))


def copied(*sources: Vertex) -> Vertex:
    actions = tuple(Copy(input=number, source="/", dest="/") for number, _ in enumerate(sources, 1))
    return Vertex(FileOp(actions=actions), (Vertex(ScratchSource()), *sources))


def test_images_git_and_files_are_materials_without_credentials() -> None:
    git = Vertex(GitSource(remote="https://me:secret@h.example/r.git", ref="v1", subdir="src"))
    file = Vertex(HttpSource(url="https://token@h.example/f?a=b"))
    sources = found(copied(image(f"busybox@{MANIFEST}"), git, file))
    assert sources.materials() == [
        {
            "uri": f"pkg:docker/busybox?digest={MANIFEST}&platform=linux%2Famd64",
            "digest": {"sha256": MANIFEST.hex},
        },
        {"uri": "https://xxxxx:xxxxx@h.example/r.git#v1", "digest": {"sha1": COMMIT}},
        {"uri": "https://xxxxx@h.example/f?a=b", "digest": {"sha256": SHA256}},
    ]
    assert sources.complete


def test_an_image_has_the_name_that_it_was_asked_for_by() -> None:
    asked = UsedImage(Reference.parse("busybox:1"), LINUX_AMD64, MANIFEST)
    sources = found(image(f"busybox:1@{MANIFEST}"), asked)
    assert [m["uri"] for m in sources.materials()] == [
        "pkg:docker/busybox@1?platform=linux%2Famd64"
    ]


def test_directories_of_the_client_and_uploads_make_materials_incomplete() -> None:
    local = found(copied(Vertex(LocalSource(name="context"))))
    assert (local.complete, local.locals) == (False, {"client-context"})
    upload = found(copied(Vertex(HttpSource(url="upload:x"))))
    assert (upload.complete, upload.materials()) == (False, [])


def test_what_a_step_asked_its_proxy_for_is_a_material_or_missing() -> None:
    step = run(image("busybox"))
    assert isinstance(step.op, ExecOp)
    proxied = replace(step.op, proxied=True)
    known = found(Vertex(proxied, step.inputs, VertexMeta(name="known")))
    assert {"uri": "http://h/a", "digest": {"sha256": SHA256}} in known.materials()
    assert [one.request.url for one in known.uncaptured] == ["http://h/b"]
    assert (known.proxied, known.complete) == (True, False)
    unknown = found(Vertex(proxied, step.inputs))
    assert [one.request.reason for one in unknown.uncaptured] == ["unknown_requests"]
    assert not found(step).proxied
    known.merge(unknown)
    assert len(known.uncaptured) == 2


def test_secrets_and_agents_are_told_by_id_and_are_optional_only_where_all_steps_say_so() -> None:
    mounts = [
        Mount(target="/a", type=MountType.SECRET, id="both", required=True),
        Mount(target="/b", type=MountType.SECRET, id="soft"),
        Mount(target="/c", type=MountType.SSH),
    ]
    first = run(image("busybox"), *mounts)
    second = run(first, Mount(target="/d", type=MountType.SECRET, id="both"))
    assert found(second).parameters() == {
        "secrets": [{"id": "both"}, {"id": "soft", "optional": True}],
        "ssh": [{"id": "default", "optional": True}],
    }


@pytest.mark.parametrize(("mode", "network"), [("none", False), ("default", True), ("host", True)])
def test_steps_with_a_network_are_noted(mode: str, network: bool) -> None:
    assert found(run(image("busybox"), network=NetworkMode(mode))).network is network


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h/x", "https://xxxxx:xxxxx@h/x"),
        ("https://u@h/x@y", "https://xxxxx@h/x@y"),
        ("ssh://git@h/x", "ssh://git@h/x"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("https://h/x?u=a:b@c", "https://h/x?u=a:b@c"),
        ("https://u:p@q@h/", "https://xxxxx:xxxxx@h/"),
    ],
)
def test_credentials_in_urls_are_masked(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
