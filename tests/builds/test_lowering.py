"""A Dockerfile on its way to definitions: each lookup once, and warnings also before an error."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from pybuild.builds.epoch import Epochs
from pybuild.builds.lookups import Lookups, noting
from pybuild.builds.lowering import Lookup, Lowering
from pybuild.engine.host import SystemClock
from pybuild.executor.sources.remote import RemoteSources
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.events import BuildWarning, Event
from pybuild.model.platform import Platform
from pybuild.model.policy import Policies, PolicySource, Undecided
from pybuild.model.reference import Reference

_AMD64 = Platform.make("linux", "amd64")
_ARM64 = Platform.make("linux", "arm64")
_MANIFEST = Digest.of(b"manifest")


class _NoSources(RemoteSources):
    def __init__(self) -> None:
        pass


class _Site:
    """A place to lower at, with the lookups and the warnings that came of it."""

    def __init__(self, peer: str = "") -> None:
        self.peer = peer
        self.requests: list[ImageRequest] = []
        self.warnings: list[BuildWarning] = []
        self.decisions: list[PolicySource] = []

    def lowering(self, text: str) -> Lowering:
        return Lowering(text.encode(), "Dockerfile", self.lookup(), self.warnings.append)

    def lookup(self) -> Lookup:
        def unseen(event: Event) -> None:
            pass

        clock = SystemClock()
        return Lookup(
            image=self._image,
            epochs=Epochs(_NoSources(), unseen, clock),
            emit=unseen,
            clock=clock,
            decide=self._decide,
        )

    async def _image(self, request: ImageRequest) -> ResolvedImage:
        if request.reference.path.endswith("/gone"):
            raise UserError("no such image", peer=self.peer)
        self.requests.append(request)
        return ResolvedImage(digest=_MANIFEST, config={}, layer_count=1, platform=request.platform)

    async def _decide(self, source: PolicySource) -> None:
        self.decisions.append(source)

    def judge(self, source: PolicySource) -> PolicySource:
        if source not in self.decisions:
            raise Undecided(source)
        return source


def _options(platform: Platform = _AMD64, policies: Policies | None = None) -> LowerOptions:
    return LowerOptions(target_platform=platform, build_platform=_AMD64, policies=policies)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM scratch\nMAINTAINER me\nUSER\t$x${y:bogus}\n", "bogus"),
        ("FROM scratch\nMAINTAINER me\nCOPY --bogus / /\n", "bogus"),
    ],
    ids=["when it is lowered", "when it is parsed"],
)
def test_the_checks_have_their_say_before_a_file_that_cannot_be_built_fails(
    text: str, message: str
) -> None:
    site = _Site()
    with pytest.raises(UserError, match=message):
        asyncio.run(site.lowering(text).lower(_options()))
    assert [warning.rule for warning in site.warnings] == ["MaintainerDeprecated"]


def test_warnings_of_a_file_that_can_be_built_come_with_its_definition() -> None:
    site = _Site()
    lowered = asyncio.run(site.lowering("FROM scratch\nMAINTAINER me\n").lower(_options()))
    assert [warning.rule for warning in lowered.warnings] == ["MaintainerDeprecated"]
    assert site.warnings == []


def test_an_image_is_looked_up_and_noted_once_for_all_platforms() -> None:
    site, lookups = _Site(), Lookups()
    text = "FROM --platform=$BUILDPLATFORM tools AS tools\nFROM base\nCOPY --from=tools /a /\n"

    async def both() -> None:
        lowering = site.lowering(text)
        with noting(lookups):
            for platform in (_AMD64, _ARM64):
                await lowering.lower(_options(platform))

    asyncio.run(both())
    names = [(one.reference.familiar, one.platform.arch) for one in site.requests]
    assert sorted(names) == [
        ("base:latest", "amd64"),
        ("base:latest", "arm64"),
        ("tools:latest", "amd64"),
    ]
    assert [request for request, _ in lookups.images] == site.requests


@pytest.mark.parametrize(("peer", "words"), [("", "no such image"), ("not found", "not found")])
def test_an_error_of_a_lookup_has_the_lines_and_the_stage_that_was_perhaps_meant(
    peer: str, words: str
) -> None:
    text = "FROM scratch AS gones\nFROM gone\n"
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(_Site(peer).lowering(text).lower(_options()))
    error = caught.value.exceptions[0]
    assert isinstance(error, UserError)
    assert [span.first_line for span in error.spans] == [2]
    assert error.hints == ("did you mean the stage gones?",)
    assert error.message == "gone is no stage above, and no image: no such image"
    assert error.peer == words  # of other builders


def test_a_question_is_answered_by_images_and_by_faults_alike() -> None:
    site = _Site()
    amd64 = partial(ImageRequest, platform=_AMD64)
    base, gone = (amd64(reference=Reference.parse(name)) for name in ("base", "gone"))
    need = NeedImages(requests=(base, gone), spans=((), ()))
    outcomes = asyncio.run(site.lookup().outcomes(need))
    assert list(outcomes) == [base, gone]
    assert isinstance(outcomes[base], ResolvedImage) and site.requests == [base]
    fault = outcomes[gone]
    assert isinstance(fault, UserError) and fault.spans == ()


def test_a_verdict_that_is_lacking_is_obtained_and_the_lowering_begins_again() -> None:
    site = _Site()
    policies = Policies(judge=site)
    asyncio.run(site.lowering("FROM base\n").lower(_options(policies=policies)))
    assert [source.identifier for source in site.decisions] == [
        "docker-image://docker.io/library/base:latest"
    ]
    assert len(site.requests) == 1
