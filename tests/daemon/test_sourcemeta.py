"""The facts of sources that a client's frontend asks for, from engines that only answer [6, 9]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb.ops import Platform as PlatformMessage
from pybuild.buildkit.pb.ops import SourceOp
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.sourcemeta import resolve_image_config, resolve_source_meta
from pybuild.daemon.session.upload import HOST
from pybuild.engine.host import native_platform
from pybuild.executor.sources.http import HttpFile
from pybuild.frontend.lowering.interface import ImageRequest, ResolvedImage
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.events import Event, VertexAdded
from pybuild.model.ops import GitSource, HttpSource
from pybuild.model.platform import Platform
from pybuild.model.policy import Action, Policies, Policy, Rule, Selector
from tests.clocks import FakeClock

T = TypeVar("T")
A = Digest.of(b"a")
CONFIG = {"architecture": "arm64", "os": "linux"}
ARM = Platform.parse("linux/arm64/v8")


@dataclass
class Answers:
    """A scope whose sources answer with these, and keep what they were asked."""

    modified: str = "Tue, 01 Dec 2026 00:00:00 GMT"
    is_tag: bool = False
    policies: Policies | None = None
    asked: list[object] = field(default_factory=list[object])
    events: list[Event] = field(default_factory=list[Event])

    def scope(self) -> Scope:
        async def resolve(request: ImageRequest, *, pull: bool) -> ResolvedImage:
            self.asked.append((request, pull))
            return ResolvedImage(A, CONFIG, 1, request.platform)

        async def layout(name: str, digest: Digest | None, platform: Platform) -> ResolvedImage:
            self.asked.append((name, digest, platform))
            return ResolvedImage(A, CONFIG, 1, platform)

        async def file(op: HttpSource) -> HttpFile:
            self.asked.append(op.url)
            return HttpFile(sha256="f" * 64, last_modified=self.modified, delta="d")

        async def commit(op: GitSource) -> object:
            self.asked.append(op)
            object = "b" * 40 if self.is_tag else "a" * 40
            return SimpleNamespace(object=object, commit="a" * 40, ref="refs/x")

        async def objects(op: GitSource) -> tuple[bytes, bytes]:
            del op
            return b"commit", b"tag"

        async def adopt(id: str, filename: str) -> HttpSource:
            return HttpSource(url=f"adopted:{id}", filename=filename)

        async def decided(work: Callable[[], T]) -> T:
            return work()

        made = SimpleNamespace(
            policies=self.policies,
            decided=decided,
            emit=self.events.append,
            adopt_upload=adopt,
            engine=SimpleNamespace(clock=FakeClock(), images=SimpleNamespace(resolve=resolve)),
            layouts=SimpleNamespace(image=layout),
            sources=SimpleNamespace(
                http=SimpleNamespace(file=file),
                git=SimpleNamespace(resolve=commit, objects=objects),
            ),
        )
        return cast(Scope, made)

    def meta(self, identifier: str, **more: Any) -> pb.ResolveSourceMetaResponse:
        attrs = more.pop("attrs", {})
        source = SourceOp(identifier=identifier, attrs=attrs)
        request = pb.ResolveSourceMetaRequest(Source=source, **more)
        return asyncio.run(resolve_source_meta(self.scope(), request))

    def steps(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, VertexAdded)]


def test_an_image_has_a_digest_and_a_config() -> None:
    answers = Answers()
    platform = PlatformMessage(OS="linux", Architecture="arm64", Variant="v8")
    found = answers.meta("docker-image://docker.io/library/a:1", Platform=platform)
    assert found.Source.identifier == "docker-image://docker.io/library/a:1"
    assert found.Image.Digest == A
    assert json.loads(found.Image.Config) == CONFIG
    [(request, pull)] = cast(list[tuple[ImageRequest, bool]], answers.asked)
    assert (str(request.reference), request.platform, pull) == (
        "docker.io/library/a:1",
        ARM,
        True,
    )
    assert answers.steps() == ["[internal] load metadata for docker.io/library/a:1"]


def test_an_image_is_looked_for_here_alone_or_shown_under_another_name() -> None:
    answers = Answers()
    wish = pb.ResolveSourceImageRequest(NoConfig=True)
    found = answers.meta(
        "docker-image://a:1", ResolveMode="local", LogName="[mine] look", Image=wish
    )
    assert (found.Image.Digest, found.Image.Config) == (A, b"")
    [(request, pull)] = cast(list[tuple[ImageRequest, bool]], answers.asked)
    assert (request.platform, pull) == (native_platform(), False)
    assert answers.steps() == ["[mine] look"]
    with pytest.raises(UserError, match="failed to parse reference A b"):
        answers.meta("docker-image://A b")


@pytest.mark.parametrize(
    ("identifier", "attrs", "name", "digest"),
    [
        (f"oci-layout://mine:tag@{A}", {}, "mine", A),
        ("oci-layout://mine", {}, "mine", None),
        (f"oci-layout://x.example/a@{A}", {"oci.store": "stored"}, "stored", A),
    ],
)
def test_an_image_of_a_layout(
    identifier: str, attrs: dict[str, str], name: str, digest: Digest | None
) -> None:
    answers = Answers()
    found = answers.meta(identifier, attrs=attrs)
    assert answers.asked == [(name, digest, native_platform())]
    assert found.Image.Digest == A and json.loads(found.Image.Config) == CONFIG
    assert answers.steps() == [f"[internal] load metadata for {identifier}"]


def test_a_file_has_a_checksum_a_name_and_a_time() -> None:
    answers = Answers()
    found = answers.meta("https://x.example/d/f.tar?token=1").HTTP
    assert (found.Checksum, found.Filename) == ("sha256:" + "f" * 64, "f.tar")
    assert found.LastModified.seconds == 1796083200
    assert answers.asked == ["https://x.example/d/f.tar?token=1"]
    for text in ("", "some day"):
        found = Answers(modified=text).meta("http://x.example/f").HTTP
        assert not found.HasField("LastModified")


def test_a_file_of_the_client_is_adopted_first() -> None:
    answers = Answers()
    answers.meta(f"http://{HOST}/abc")
    assert answers.asked == ["adopted:abc"]


def test_a_commit_has_its_own_name_alone_and_a_tag_two() -> None:
    found = Answers().meta("git://x.example/a.git#v1").Git
    assert (found.Checksum, found.Ref, found.CommitChecksum) == ("a" * 40, "refs/x", "")
    assert (found.CommitObject, found.TagObject) == (b"", b"")
    wish = pb.ResolveSourceGitRequest(ReturnObject=True)
    answers = Answers(is_tag=True)
    full = {"git.fullurl": "https://x.example/a.git"}
    found = answers.meta("git://x.example/a.git#v1", attrs=full, Git=wish).Git
    assert (found.Checksum, found.CommitChecksum) == ("b" * 40, "a" * 40)
    assert (found.CommitObject, found.TagObject) == (b"commit", b"tag")
    [op] = answers.asked
    assert isinstance(op, GitSource)
    assert (op.remote, op.ref) == ("https://x.example/a.git", "v1")


def test_nothing_is_known_of_a_directory_before_it_is_sent() -> None:
    answers = Answers()
    assert answers.meta("local://context").Source.identifier == "local://context"
    assert (answers.asked, answers.events) == ([], [])
    with pytest.raises(UserError, match="cannot resolve metadata of scratch sources"):
        answers.meta("scratch://x")


def test_a_config_alone_is_had_by_its_images_name() -> None:
    answers = Answers()
    request = pb.ResolveImageConfigRequest(Ref="docker.io/library/a:1")
    found = asyncio.run(resolve_image_config(answers.scope(), request))
    assert (found.Digest, found.Ref) == (A, "docker.io/library/a:1")
    assert json.loads(found.Config) == CONFIG


def test_policies_judge_what_is_asked_for() -> None:
    refused = Policies((Policy((Rule(Action.DENY, Selector("docker-image://*")),)),))
    with pytest.raises(UserError, match="denied by policy"):
        Answers(policies=refused).meta("docker-image://docker.io/library/a:1")
    request = pb.ResolveImageConfigRequest(Ref="docker.io/library/a:1")
    with pytest.raises(UserError, match="denied by policy"):
        asyncio.run(resolve_image_config(Answers(policies=refused).scope(), request))
