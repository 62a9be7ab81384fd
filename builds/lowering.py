"""The Dockerfile of a build, lowered for each of its platforms; what it names is looked up once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pybuild.builds.epoch import Epochs
from pybuild.builds.lookups import note_image
from pybuild.builds.verdicts import Decide, InThread, decided_of, in_place, nobody_decides
from pybuild.engine.progress import internal_step
from pybuild.frontend.lint.stages import INVALID_BASE_IMAGE_PLATFORM
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    Lowered,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.lowering.lower import lower
from pybuild.frontend.syntax.ast import Dockerfile
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.events import BuildWarning, Emit
from pybuild.model.policy import Undecided
from pybuild.model.span import Span

if TYPE_CHECKING:
    from pybuild.model.clock import Clock

LookUp = Callable[[ImageRequest], Awaitable[ResolvedImage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The way to images and times of sources that a Dockerfile names.

    Attributes:
        image: finds one image.
        decide: obtains verdicts that policies lack.
        in_thread: does what is computed of the file.
    """

    image: LookUp
    epochs: Epochs
    emit: Emit
    clock: Clock
    decide: Decide = nobody_decides
    in_thread: InThread = in_place

    async def images(self, need: NeedImages) -> dict[ImageRequest, ResolvedImage]:
        """Return the images that a frontend asks for, all looked up at once.

        Raises:
            PybuildError: with the lines that ask for it.
        """
        async with asyncio.TaskGroup() as group:
            tasks = {
                request: group.create_task(self._image(request, spans, need.hints(request)))
                for request, spans in zip(need.requests, need.spans, strict=True)
            }
        images = {request: task.result() for request, task in tasks.items()}
        for request, image in images.items():
            note_image(request, image.digest)
        return images

    async def outcomes(self, need: NeedImages) -> dict[ImageRequest, ResolvedImage | PybuildError]:
        """Return the images that a question is about, or why each cannot be had."""

        async def look_up(request: ImageRequest) -> ResolvedImage | PybuildError:
            try:
                return await self._image(request, (), ())
            except PybuildError as error:
                return error

        async with asyncio.TaskGroup() as group:
            tasks = {request: group.create_task(look_up(request)) for request in need.requests}
        return {request: task.result() for request, task in tasks.items()}

    async def _image(
        self, request: ImageRequest, spans: tuple[Span, ...], hints: tuple[str, ...]
    ) -> ResolvedImage:
        name = f"[internal] load metadata for {request.reference}"
        async with internal_step(name, self.emit, self.clock):
            try:
                return await self.image(request)
            except PybuildError as error:
                if hints:  # a stage was meant: what registries say matters less
                    name = request.reference.shortest
                    error = error.copy_with(
                        message=f"{name} is no stage above, and no image: {error.message}",
                        hints=(*hints, *error.hints)[:2],
                        peer=error.peer or error.message,
                    )
                raise error.with_spans(spans) from error.__cause__


def warnings_of(lowered: Sequence[Lowered]) -> list[BuildWarning]:
    """Return the findings of the checks: those of one platform, and what concerns others alone.

    A base image for the first platform makes images of that, whatever the others are called.
    """
    first, *others = lowered
    rule = INVALID_BASE_IMAGE_PLATFORM.name
    odd = [warning for one in others for warning in one.warnings if warning.rule == rule]
    return [*first.warnings, *(warning for warning in odd if warning not in first.warnings)]


def advice_of(lowered: Sequence[Lowered]) -> list[BuildWarning]:
    """Return the advice about the file, once for all platforms."""
    return list(dict.fromkeys(advice for one in lowered for advice in one.advice))


class Lowering:
    """One Dockerfile on its way to definitions.

    Args:
        warn: gets the findings of the checks about a file that cannot be built.
    """

    def __init__(
        self, text: bytes, filename: str, lookup: Lookup, warn: Callable[[BuildWarning], None]
    ) -> None:
        self._text = text
        self._filename = filename
        self._lookup = lookup
        self._warn = warn
        self._parsed: Dockerfile | None = None
        self._images: dict[ImageRequest, ResolvedImage] = {}

    @property
    def dockerfile(self) -> Dockerfile:
        """The parsed file.

        Raises:
            UserError: with the lines that are wrong.
        """
        if self._parsed is None:
            self._parsed = parse_dockerfile(self._text, self._filename)
        return self._parsed

    async def lower(self, options: LowerOptions) -> Lowered:
        """Return the definition for one platform.

        Raises:
            UserError: with the lines it is about, after what the checks have to say of the file.
            EnvironmentFault: an image or a source is out of reach.
        """
        try:
            return await decided_of(partial(self._lower, options), self._lookup.decide)
        except UserError:
            for warning in await self._lookup.in_thread(partial(self._findings, options)):
                self._warn(warning)
            raise

    async def _lower(self, options: LowerOptions) -> Lowered:
        in_thread = self._lookup.in_thread
        dockerfile = await in_thread(lambda: self.dockerfile)
        options = await self._lookup.epochs.settle(dockerfile, options)
        lowering = partial(lower, dockerfile, options, self._images)
        while isinstance(answer := await in_thread(lowering), NeedImages):
            self._images |= await self._lookup.images(answer)
        return answer

    def _findings(self, options: LowerOptions) -> list[BuildWarning]:
        """Return the findings of the checks about a file that cannot be built."""
        from pybuild.frontend.check import Checked, FileCheck  # seldom needed by a build

        try:
            checked = FileCheck(self._text, self._filename, options).run(self._images)
        except Undecided:  # about a source that was not come upon
            return []
        findings = checked.findings if isinstance(checked, Checked) else ()
        return [finding.warning() for finding in findings]
