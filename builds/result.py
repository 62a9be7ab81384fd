"""The result of a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.events import BuildWarning

if TYPE_CHECKING:
    from pybuild.explain.report import BuildReport


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """The outcome of one build.

    Attributes:
        image: descriptor of the manifest, or of the index for several platforms; None when no
            output made an image.
        image_id: digest of the config (of the index for several platforms), which is what
            ``docker images`` calls the image ID [OUT-15].
        names: references that the image has in the local store.
        layers: the results' deltas, which hold what was only to be made.
        steps: ``(name, "CACHED" | "DONE")`` in the order of the definition.
        metadata: the entries of ``--metadata-file`` [BLD-30].
        report: the steps that were cached, and why the others ran; None where that is not known.
    """

    image: Descriptor | None = None
    image_id: Digest | None = None
    names: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()
    warnings: tuple[BuildWarning, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    report: BuildReport | None = None

    @property
    def is_fully_cached(self) -> bool:
        """Whether no step had to run."""
        return all(word == "CACHED" for _, word in self.steps)
