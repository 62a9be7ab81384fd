"""An output of a build: its type, its place, its attributes [OUT]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from pybuild.exporter.annotations import Annotations, from_attributes, is_attribute
from pybuild.frontend.words.environment import parse_epoch
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference
from pybuild.model.text import split_csv, switch

OUTPUT_TYPES = ("image", "registry", "oci", "docker", "local", "tar", "cacheonly")


_LAYERS = frozenset(
    (
        "allow-secret",
        "check-secrets",
        "compatibility-version",
        "compression",
        "compression-level",
        "force-compression",
    )
    + ("name", "name-canonical")
    + ("attestation-inline", "oci-artifact", "oci-mediatypes")
    + ("rewrite-timestamp", "source-date-epoch")
)
_PUSHED = frozenset(("push", "push-by-digest", "registry.insecure", "store", "unpack"))
_TREES = frozenset(("attestation-prefix", "source-date-epoch"))
_ATTRIBUTES = {
    "image": _LAYERS | _PUSHED,
    "registry": _LAYERS | _PUSHED,
    "oci": _LAYERS | {"tar"},
    "docker": _LAYERS | {"context", "tar"},
    "local": _TREES | {"mode", "platform-split"},
    "tar": _TREES,
}
_TITLES = {
    "image": "image",
    "registry": "image",
    "oci": "oci image format",
    "docker": "docker image format",
    "local": "client directory",
    "tar": "client tarball",
}
_COMPRESSIONS = ("estargz", "gzip", "uncompressed", "zstd")
_FLAGS = frozenset(
    (
        "attestation-inline",
        "check-secrets",
        "force-compression",
        "name-canonical",
        "oci-artifact",
        "oci-mediatypes",
    )
    + ("platform-split", "push", "push-by-digest", "registry.insecure", "rewrite-timestamp")
    + ("store", "tar", "unpack")
)
# What BuildKit calls the ways in which its releases make images; 10 differs in the modes of files from git.
_COMPATIBLE = (20, 30)
# What BuildKit has besides [OUT-1]; naming the default is no harm.
_UNSUPPORTED = frozenset(("prefer-nondist-layers",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One ``--output`` [OUT]. *attrs* has every key but ``type`` and ``dest``."""

    type: str
    dest: str = ""
    attrs: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Refuse attributes that would be ignored.

        Raises:
            UsageError: an attribute, or a dest, that means nothing to this type or is not done yet.
        """
        known = _ATTRIBUTES.get(self.type, frozenset())
        for name, value in self.attrs.items():
            if name in known or (name in _UNSUPPORTED and value.lower() in {"false", "0"}):
                continue
            if is_attribute(name) and self.is_image:
                continue
            if name in _UNSUPPORTED:
                raise UsageError(f"output attribute {name}={value} is not supported yet")
            raise UsageError(
                f'output type={self.type} has no attribute "{name}"',
                hints=[f"it has: {', '.join(sorted(known))}"] if known else [],
            )
        if self.dest and "context" in self.attrs:
            raise UsageError(f"output has a dest, {self.dest}, and a context: one of them")
        if self.dest and self.type in {"image", "registry", "cacheonly"}:
            raise UsageError(f"output type={self.type} has no dest: {self.dest}")
        if self.attrs.get("mode", "copy") not in ("copy", "delete"):
            raise UsageError(f'output mode "{self.attrs["mode"]}": expected copy or delete')
        for name in sorted(_FLAGS & self.attrs.keys()):
            self.flag(name)
        self.epoch(None)
        if self.compression not in _COMPRESSIONS:
            names = ", ".join(_COMPRESSIONS)
            raise UsageError(f'output compression "{self.compression}": one of {names}')
        self.level()
        self._check_compatibility()
        if self.annotations().items and not self.oci_types:
            raise UsageError('annotations need OCI media types: leave "oci-mediatypes=false" out')
        if self.compression == "estargz" and not self.oci_types:
            raise UsageError(f"output compression {self.compression} needs oci-mediatypes=true")
        if self.flag("rewrite-timestamp") and self.flag("unpack"):
            raise UsageError('output attribute "rewrite-timestamp" conflicts with "unpack"')

    @property
    def compression(self) -> str:
        """Of new layers [OUT-10]."""
        return self.attrs.get("compression", "gzip")

    @property
    def oci_types(self) -> bool:
        """Whether manifests and configs have OCI's media types; annotations do not go without."""
        needed = bool(self.annotations().items) or self.compression in ("estargz", "zstd")
        if self.follows_attestations:
            return needed
        return self.flag("oci-mediatypes", self.type != "docker" or bool(self.annotations().items))

    @property
    def follows_attestations(self) -> bool:
        """Whether, as before BuildKit 0.32, only attestations make the media types of an image OCI's."""
        return self.is_kept and self.is_older and "oci-mediatypes" not in self.attrs

    @property
    def is_older(self) -> bool:
        """Whether the image is to be what BuildKit 0.15 to 0.31 make of it [OUT-10]."""
        return self.attrs.get("compatibility-version") == "20"

    def _check_compatibility(self) -> None:
        text = self.attrs.get("compatibility-version")
        if text is not None and text not in map(str, _COMPATIBLE):
            raise UsageError(
                f"unsupported compatibility-version {text} (supported: {', '.join(map(str, _COMPATIBLE))})"
            )

    @property
    def pushes(self) -> bool:
        """Whether it goes to a registry."""
        return self.type == "registry" or self.flag("push")

    @property
    def checks_secrets(self) -> bool:
        """Whether its layers are searched for secrets before it goes anywhere: what is pushed is."""
        return self.flag("check-secrets", self.pushes)

    @property
    def allowed_secrets(self) -> list[str]:
        """Patterns of the paths that may hold secrets."""
        return [text for text in self.attrs.get("allow-secret", "").split(";") if text]

    @property
    def is_image(self) -> bool:
        """Whether it has manifests, as opposed to bare files."""
        return self.type in {"image", "registry", "oci", "docker"}

    @property
    def is_kept(self) -> bool:
        """Whether it stays in the store or goes to registries, and nowhere else."""
        return self.type in {"image", "registry"}

    @property
    def title(self) -> str:
        """The name of the step that exports it, for people."""
        return f"exporting to {_TITLES[self.type]}"

    @property
    def replaces(self) -> bool:
        """Whether a directory is to hold nothing but the result [OUT-17]."""
        return self.attrs.get("mode") == "delete"

    def epoch(self, epoch_of_build: int | None) -> int | None:
        """Return the latest time that this output may show, in seconds [REP-2].

        Args:
            epoch_of_build: SOURCE_DATE_EPOCH of the build; the output may have another, or none.

        Raises:
            UsageError: it is no number.
        """
        text = self.attrs.get("source-date-epoch")
        if text is None:
            return epoch_of_build
        if not text:
            return None
        epoch = parse_epoch(text)
        if epoch is None:
            raise UsageError(f"invalid source-date-epoch: {text}")
        return epoch

    def annotations(self) -> Annotations:
        """Return the annotations of the image [OUT-14].

        Raises:
            UsageError: one that cannot be understood.
        """
        return from_attributes(self.attrs)

    def level(self) -> int | None:
        """Return how hard layers are compressed; None leaves it to us [OUT-10].

        Raises:
            UsageError: the compression has no such level.
        """
        if "compression-level" not in self.attrs:
            return None
        from pybuild.exporter.compressionlevel import compression_level

        return compression_level(self.attrs, "output")

    def flag(self, name: str, default: bool = False) -> bool:
        return switch(self.attrs, name, default, "output")


def parse_output(text: str) -> Output:
    """Read ``type=…,dest=…``; a bare path is a local directory, ``-`` a tar on standard output.

    ``type=docker`` without a dest is an engine, as for buildx.

    Raises:
        UsageError: unknown type, a field without ``=``, or a type without the dest it needs.
    """
    if not text:
        raise UsageError('invalid output "": expected type=…,dest=… or a directory')
    if "=" not in text:
        return Output(type="tar", dest="-") if text == "-" else Output(type="local", dest=text)
    attrs: dict[str, str] = {}
    for item in split_csv(text):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f'invalid output "{text}": field "{item}" must be a key=value pair')
        key = key.strip()
        attrs[key if is_attribute(key) else key.lower()] = value
    kind = attrs.pop("type", "")
    dest = attrs.pop("dest", "")
    if kind not in OUTPUT_TYPES:
        from difflib import get_close_matches

        near = get_close_matches(kind, OUTPUT_TYPES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else f": one of {', '.join(OUTPUT_TYPES)}"
        raise UsageError(f'unknown output type "{kind}"{hint}')
    if kind in {"local", "oci"} and not dest:
        if kind == "local":
            from difflib import get_close_matches

            meant = get_close_matches("dest", attrs, n=1)
            hint = f"write dest= for {meant[0]}=" if meant else "say where to: type=local,dest=DIR"
            raise UsageError(f'output "{text}": dest is required for local', hints=[hint])
        dest = "-"
    if kind == "tar" and not dest:
        dest = "-"
    return Output(type=kind, dest=dest, attrs=attrs)


def output_names(tags: Sequence[Reference], output: Output) -> list[Reference]:
    """Return the names that an image gets, each once.

    Raises:
        UsageError: one that an image cannot have.
    """
    names = list(tags)
    for text in filter(None, output.attrs.get("name", "").split(",")):
        try:
            reference = Reference.parse(text)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if reference not in names:
            names.append(reference)
    for name in names:
        if name.digest is not None:
            raise UsageError(f'"{name}": an image cannot be named by a digest')
    return names


def check_tagless(names: Sequence[Reference]) -> None:
    """Refuse tags where only the digest is to name the image.

    Raises:
        UsageError: one has a tag; ``latest`` may be what a name without one was completed with.
    """
    for name in names:
        if name.tag not in (None, "latest"):
            raise UsageError(f"can't push tagged ref {name} by digest")


def outputs_of(
    outputs: list[Output],
    tags: Sequence[Reference],
    *,
    push: bool,
    load: bool,
    annotations: Sequence[str],
    allow_secrets: Sequence[str] = (),
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
    outputs = [_with_allowed(output, allow_secrets) for output in outputs]
    wants_push = any(o.type == "registry" or o.flag("push") for o in outputs)
    if wants_push and not tags and not any(o.attrs.get("name") for o in outputs):
        raise UsageError("tag is needed when pushing to registry", hints=["name the image with -t"])
    return outputs, loaded


def _with_allowed(output: Output, paths: Sequence[str]) -> Output:
    """``--allow-secret`` is about every output that is an image."""
    if not paths or not output.is_image:
        return output
    allowed = ";".join([*output.allowed_secrets, *paths])
    return Output(
        type=output.type, dest=output.dest, attrs={**output.attrs, "allow-secret": allowed}
    )


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
