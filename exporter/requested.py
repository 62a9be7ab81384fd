"""The outputs of a build, from the options about them."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.exporter.output import Output
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference


def outputs_of(
    outputs: list[Output],
    tags: Sequence[Reference],
    *,
    push: bool,
    load: bool,
    annotations: Sequence[str],
) -> tuple[list[Output], Output | None]:
    """Return the outputs with those that options add, and the one of ``--load`` [BLD-9, BLD-17].

    Raises:
        UsageError: an annotation is wrong, or what is pushed has no name.
    """
    if push:
        outputs = _with_push(outputs)
    loads = [Output(type="image")] if load else []
    outputs = _with_annotations([*outputs, *loads], annotations)
    loaded = outputs.pop() if loads else None
    wants_push = any(o.type == "registry" or o.flag("push") for o in outputs)
    if wants_push and not tags and not any(o.attrs.get("name") for o in outputs):
        raise UsageError("tag is needed when pushing to registry", hints=["name the image with -t"])
    return outputs, loaded


def _with_push(outputs: list[Output]) -> list[Output]:
    """``--push`` fills in an image output or adds a registry output [BLD-9]."""
    if any(output.type == "registry" for output in outputs):
        return outputs
    for index, output in enumerate(outputs):
        if output.type == "image":
            pushed = Output(type="image", attrs={**output.attrs, "push": "true"})
            return [*outputs[:index], pushed, *outputs[index + 1 :]]
    return [*outputs, Output(type="registry")]


def _with_annotations(outputs: list[Output], flags: Sequence[str]) -> list[Output]:
    """``--annotation`` is about every output that is an image [BLD-17].

    Raises:
        UsageError: there is none, or an annotation is wrong.
    """
    if not flags:
        return outputs
    from pybuild.exporter.annotations import attributes_of

    more = attributes_of(flags)
    outputs = outputs or [Output(type="image")]
    if not any(output.is_image for output in outputs):
        raise UsageError("--annotation needs an output that is an image")
    return [
        Output(type=one.type, dest=one.dest, attrs={**more, **one.attrs}) if one.is_image else one
        for one in outputs
    ]
