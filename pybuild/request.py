"""What one build is asked to do, with every value checked and parsed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.annotations import Annotations, from_attributes, is_attribute
from pybuild.cache.plainfile import plain
from pybuild.frontend.environment import parse_epoch
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.ops import NetworkMode
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.resources import NAMES, Resources, parse_resources

if TYPE_CHECKING:
    from pybuild.attest.options import Wanted
    from pybuild.cacheoptions import CacheFrom, CacheTo
    from pybuild.executor.sources.agents import SshAgent
    from pybuild.model.policy import Policies

MAY_DELETE = "buildx.local.delete"
ENTITLEMENTS = (MAY_DELETE, "network.host", "security.insecure")
OUTPUT_TYPES = ("image", "registry", "oci", "docker", "local", "tar", "cacheonly")


_LAYERS = frozenset(
    ("compression", "compression-level", "force-compression", "name", "name-canonical")
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
_COMPRESSIONS = ("estargz", "gzip", "uncompressed", "zstd")
_FLAGS = frozenset(
    ("attestation-inline", "force-compression", "name-canonical", "oci-artifact", "oci-mediatypes")
    + ("platform-split", "push", "push-by-digest", "registry.insecure", "rewrite-timestamp")
    + ("store", "tar", "unpack")
)
# What BuildKit has besides [OUT-1]; naming the default is no harm.
_UNSUPPORTED = frozenset(("prefer-nondist-layers",))
_SECRET_BYTES = 500 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One ``--output`` [OUT]. *attrs* has every key but ``type`` and ``dest``."""

    type: str
    dest: str = ""
    attrs: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Refuse what would be ignored.

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
        if self.annotations().items and not self.oci_types:
            raise UsageError('annotations need OCI media types: leave "oci-mediatypes=false" out')
        if self.compression in ("estargz", "zstd") and not self.oci_types:
            raise UsageError(f"output compression {self.compression} needs oci-mediatypes=true")
        if self.type == "docker" and not self.flag("tar", True):
            raise UsageError("output type=docker is always a tar file", hints=["use type=oci"])
        if self.flag("rewrite-timestamp") and self.flag("unpack"):
            raise UsageError('output attribute "rewrite-timestamp" conflicts with "unpack"')

    @property
    def compression(self) -> str:
        """Of new layers [OUT-10]."""
        return self.attrs.get("compression", "gzip")

    @property
    def oci_types(self) -> bool:
        """Whether manifests and configs have OCI's media types; annotations do not go without."""
        return self.flag("oci-mediatypes", self.type != "docker" or bool(self.annotations().items))

    @property
    def pushes(self) -> bool:
        """Whether it goes to a registry."""
        return self.type == "registry" or self.flag("push")

    @property
    def is_image(self) -> bool:
        """Whether it has manifests, as opposed to bare files."""
        return self.type in {"image", "registry", "oci", "docker"}

    @property
    def replaces(self) -> bool:
        """Whether a directory is to hold nothing but the result [OUT-17]."""
        return self.attrs.get("mode") == "delete"

    def epoch(self, found: int | None) -> int | None:
        """Return the latest time that this output may show, in seconds [REP-2].

        Args:
            found: SOURCE_DATE_EPOCH of the build; the output may have another, or none.

        Raises:
            UsageError: it is no number.
        """
        text = self.attrs.get("source-date-epoch")
        if text is None:
            return found
        if not text:
            return None
        epoch = parse_epoch(text)
        if epoch is None:
            raise UsageError(f"invalid source-date-epoch: {text}")
        return epoch

    def annotations(self) -> Annotations:
        """Return what the image says of itself [OUT-14].

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
        from pybuild.compressionlevel import compression_level

        return compression_level(self.attrs, "output")

    def flag(self, name: str, default: bool = False) -> bool:
        text = self.attrs.get(name)
        if text is None:
            return default
        if text.lower() not in {"true", "false", "1", "0"}:
            raise UsageError(f'output attribute {name}="{text}": expected true or false')
        return text.lower() in {"true", "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Where a build secret's value comes from [SEC-1]; the value itself is read when used."""

    id: str
    read: Callable[[], bytes] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build.

    Attributes:
        context: a directory; a git repository or an http(s) URL; ``-`` is standard input, which
            holds an archive or the Dockerfile of an empty context [CTX-1].
        dockerfile: path of the Dockerfile, empty for the context's own; ``-`` is standard input.
            With a context from elsewhere a relative path is the context's.
        dockerfile_text: the Dockerfile itself; wins over *dockerfile*.
        platforms: of the result; several give an index.
        ssh: agents that steps and git may use.
        attestations: what is to be said about the result.
        cache_from: asked for results that are not here, in this order; *cache_to* is given them.
        allow: what steps may have; ``buildx.local.delete`` is about outputs, and ours alone.
        fail_on_miss: let no step run; fail at the first that would have to.
        policies: judge every source of the build [POL].
        git_modes: files of local contexts count, and are copied, with the modes that git stores.

    Raises:
        UsageError: an output would remove files, and nobody allowed it [OUT-17].
    """

    context: str
    dockerfile: str = ""
    dockerfile_text: bytes | None = None
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict[str, str])
    named_contexts: Mapping[str, str] = field(default_factory=dict[str, str])
    platforms: tuple[Platform, ...] = ()
    tags: tuple[Reference, ...] = ()
    outputs: tuple[Output, ...] = ()
    no_cache: bool = False
    no_cache_filter: frozenset[str] = frozenset()
    pull: bool = False
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    network: NetworkMode = NetworkMode.DEFAULT
    add_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_size_bytes: int = 0
    resources: Resources = field(default_factory=Resources)
    secrets: Mapping[str, Secret] = field(default_factory=dict[str, Secret])
    ssh: tuple[SshAgent, ...] = ()
    allow: frozenset[str] = frozenset()
    attestations: Wanted | None = None
    cache_to: tuple[CacheTo, ...] = ()
    cache_from: tuple[CacheFrom, ...] = ()
    fail_on_miss: bool = False
    git_modes: bool = False
    policies: Policies | None = None

    def __post_init__(self) -> None:
        for output in self.outputs:
            if output.replaces and MAY_DELETE not in self.allow:
                raise UsageError(
                    f"output mode=delete removes what is not in the result from {output.dest}",
                    hints=[f"allow it with --allow {MAY_DELETE}"],
                )

    @property
    def multi_platform(self) -> bool:
        """Whether the result is an index, and a directory for each platform [OUT-13]."""
        forced = self.build_args.get("BUILDKIT_MULTI_PLATFORM", "").lower()
        return len(self.platforms) > 1 or forced in {"1", "true"}


def parse_allowed(names: Sequence[str]) -> frozenset[str]:
    """Read the entitlements that are granted [SEC-5].

    Raises:
        UsageError: one that does not exist; a misspelt one would be missed only where it is needed.
    """
    for name in names:
        if name not in ENTITLEMENTS and name.partition("=")[0] != "device":
            from pybuild.frontend.suggest import did_you_mean

            raise UsageError(
                f'unknown entitlement "{name}"{did_you_mean(name, ENTITLEMENTS)}',
                hints=[f"there are {', '.join(ENTITLEMENTS)} and device[=NAME]"],
            )
    return frozenset(names)


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
            raise UsageError(f'output "{text}": dest is required for local')
        dest = "-"
    if kind == "tar" and not dest:
        dest = "-"
    return Output(type=kind, dest=dest, attrs=attrs)


def split_csv(text: str) -> list[str]:
    """Split one CSV record: commas inside double quotes do not count."""
    import csv

    for record in csv.reader([text]):
        return record
    return []


def parse_pairs(items: list[str], what: str, *, from_environment: bool) -> dict[str, str]:
    """Read ``K=V`` items; ``K`` alone takes the environment's value, or is dropped [EV-3].

    Raises:
        UsageError: an empty name.
    """
    pairs: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key:
            raise UsageError(f'invalid {what} "{item}": expected NAME=value')
        if equals:
            pairs[key] = value
        elif not from_environment:
            pairs[key] = ""
        elif key in os.environ:
            pairs[key] = os.environ[key]
    return pairs


def parse_contexts(items: list[str]) -> dict[str, str]:
    """Read ``name=source`` items; names in lower case.

    Raises:
        UsageError: no such form, or a reserved name.
    """
    contexts: dict[str, str] = {}
    for item in items:
        name, equals, source = item.partition("=")
        if not (name and equals and source):
            raise UsageError(f'invalid build context "{item}": expected name=value')
        if name.lower() in {"context", "dockerfile"}:
            raise UsageError(f'invalid build context "{item}": the name "{name}" is reserved')
        contexts[name.lower()] = source
    return contexts


def parse_hosts(items: list[str]) -> tuple[tuple[str, str], ...]:
    """Read ``name:ip``, ``name=ip`` with v6 addresses bare or in brackets [BLD-16]."""
    import ipaddress

    hosts: list[tuple[str, str]] = []
    for item in items:
        separator = "=" if "=" in item else ":"
        name, found, address = item.partition(separator)
        address = address.removeprefix("[").removesuffix("]")
        if address == "host-gateway":
            address = "127.0.0.1"  # steps share the host's network
        try:
            if not (name and found):
                raise ValueError
            ipaddress.ip_address(address)
        except ValueError:
            raise UsageError(f'invalid host "{item}": expected name:ip') from None
        hosts.append((name, address))
    return tuple(hosts)


def parse_ulimits(items: list[str]) -> tuple[tuple[str, int, int], ...]:
    """Read ``name=soft[:hard]``, -1 for no limit [BLD-23]."""
    if not items:
        return ()
    from pybuild.executor.zygote import ulimits

    limits: list[tuple[str, int, int]] = []
    for item in items:
        name, _, values = item.partition("=")
        soft, _, hard = values.partition(":")
        try:
            limit = (name, int(soft), int(hard or soft))
        except ValueError:
            raise UsageError(f'invalid ulimit "{item}": expected name=soft[:hard]') from None
        if problem := ulimits.problem(*limit):
            raise UsageError(problem)
        limits.append(limit)
    return tuple(sorted(limits))


def parse_size(text: str, what: str) -> int:
    """Read ``512``, ``64m``, ``10GB`` as bytes, in powers of 1024 as docker does."""
    units = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    lowered = text.strip().lower()
    number = lowered.rstrip("bkmgti")
    unit = lowered[len(number) :].removesuffix("b").removesuffix("i")
    try:
        size = float(number) * units[unit]
        if not 0 <= size < 1 << 63:  # nor inf, which float() knows
            raise ValueError
    except (ValueError, KeyError):
        raise UsageError(f'invalid {what} "{text}": expected a size such as 64m') from None
    return int(size)


def parse_limits(given: Mapping[str, str], pairs: list[str], parent: str) -> Resources:
    """Read the flags of limits by their names, and ``--resource name=value`` [BLD-24, BLD-27].

    Raises:
        UsageError: one that is unknown or wrong.
    """
    items = {name: text for name, text in given.items() if text}
    for text in pairs:
        for item in split_csv(text):
            name, equals, value = item.partition("=")
            if not (equals and value):
                raise UsageError(f'invalid resource "{item}": expected name=value')
            items[name.strip()] = value
    sizes = {
        name: parse_size(items[name], name)
        for name in ("memory", "memory-swap")
        if items.get(name, "-1") != "-1"
    }
    return parse_resources(
        {n: items[n] for n in (*NAMES, *items) if n in items}, parent=parent, sizes=sizes
    )


def parse_agents(items: Sequence[str]) -> tuple[SshAgent, ...]:
    """Read the values of ``--ssh`` (`pybuild.ssh.parse_ssh`), which is seldom given."""
    if not items:
        return ()
    from pybuild.ssh import parse_ssh

    return parse_ssh(items, os.environ)


def parse_secret(text: str) -> Secret:
    """Read ``id=x[,src=path|,env=VAR]`` [SEC-1].

    Raises:
        UsageError: no id, an unknown field, a file that is not there, or a variable that is unset.
    """
    fields: dict[str, str] = {}
    for item in split_csv(text):
        key, _, value = item.partition("=")
        fields[{"source": "src"}.get(key, key)] = value
    kind = fields.pop("type", "")
    name = fields.pop("id", "")
    path = fields.pop("src", "")
    variable = fields.pop("env", "")
    if not name or fields or kind not in {"", "file", "env"}:
        raise UsageError(f'invalid secret "{text}": expected id=NAME[,src=PATH|,env=VAR]')
    if kind == "env" and path and not variable:
        path, variable = "", path
    if not path and not variable and name in os.environ and kind != "file":
        variable = name
    if variable:
        if variable not in os.environ:
            raise UsageError(f'secret "{name}": environment variable {variable} is not set')
        content = os.environb[os.fsencode(variable)]
        return Secret(id=name, read=lambda: content)
    source = os.path.abspath(os.path.expanduser(path or name))
    if not os.path.isfile(source):
        what = "no regular file" if os.path.exists(source) else "no such file"
        raise UsageError(f'secret "{name}": {source}: {what}')
    if os.path.getsize(source) > _SECRET_BYTES:
        raise UsageError(f'secret "{name}": {source}: larger than 500 KiB')

    def read() -> bytes:
        with open(source, "rb", opener=plain) as file:
            return file.read(_SECRET_BYTES + 1)

    return Secret(id=name, read=read)
