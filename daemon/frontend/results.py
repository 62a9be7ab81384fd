"""Results of a frontend: trees that may not exist yet, and metadata [6]."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from pybuild.buildkit.pb import gateway as pb
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.offered import Offered, read_offered
from pybuild.frontend.words.environment import parse_epoch
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.net.grpc.status import Code, RpcError

CONFIG = "containerimage.config"
BASE_CONFIG = "containerimage.base.config"
PLATFORMS = "refs.platforms"
EPOCH = "source.date.epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One tree, or one for each platform; None is the empty tree.

    Attributes:
        single: the only tree, where *many* is None.
        many: by the ids that ``refs.platforms`` explains.
        attestations: by the platform that they are about.
    """

    single: LazyTree | None = None
    many: Mapping[str, LazyTree | None] | None = None
    metadata: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    attestations: Mapping[str, tuple[Offered, ...]] = field(
        default_factory=dict[str, tuple[Offered, ...]]
    )

    def references(self) -> list[LazyTree]:
        """Return all trees that it names, those of attestations too."""
        trees = [reference for _, reference in self.each() if reference is not None]
        return trees + [one.reference for some in self.attestations.values() for one in some]

    def each(self) -> list[tuple[str, LazyTree | None]]:
        """Return the trees with their ids, in the order of the platforms; "" for the only one."""
        if self.many is None:
            return [("", self.single)]
        order = [key for key, _ in self.platforms()]
        rest = sorted(set(self.many) - set(order))
        return [(key, self.many[key]) for key in (*order, *rest) if key in self.many]

    def platforms(self) -> list[tuple[str, Platform]]:
        """Return the platforms in ``refs.platforms``.

        Raises:
            UserError: it cannot be read.
        """
        text = self.metadata.get(PLATFORMS)
        if text is None:
            return []
        try:
            given: Any = json.loads(text or b"null")
            document: Any = {} if given is None else given
            items = [
                (str(item["ID"]), item["Platform"]) for item in document.get("Platforms") or ()
            ]
            if not items:
                raise UserError("invalid empty platforms index for exporter")
            if not all(key for key, _ in items):
                raise UserError("invalid empty platform key for exporter")
            return [(key, _platform(platform)) for key, platform in items]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"failed to parse platforms: {text[:200]!r}") from error

    def config(self, key: str, *, exported: bool = True) -> dict[str, Any] | None:
        """Return the image config that goes with the tree *key*; None where there is none.

        Raises:
            UserError: it is none, or is of half a platform and shall be *exported*.
        """
        config = self._config(CONFIG, key)
        if exported and config and bool(config.get("os")) != bool(config.get("architecture")):
            raise UserError("invalid image config: os and architecture must be specified together")
        return config

    def base_config(self, key: str) -> dict[str, Any] | None:
        """Return the config of the base image of the tree *key*, if the frontend said it."""
        return self._config(BASE_CONFIG, key)

    def epoch(self, key: str) -> int | None:
        """Return SOURCE_DATE_EPOCH of the tree *key*, in seconds, if the frontend said it.

        Raises:
            UserError: it is no number.
        """
        text = self.metadata.get(f"{EPOCH}/{key}") if key else None
        text = self.metadata.get(EPOCH, b"") if text is None else text
        epoch = parse_epoch(text.decode("utf-8", "replace"))
        if text and epoch is None:
            raise UserError(f"invalid SOURCE_DATE_EPOCH from frontend: {text[:80]!r}")
        return epoch

    def _config(self, name: str, key: str) -> dict[str, Any] | None:
        text = self.metadata.get(f"{name}/{key}" if key else name)
        if not text:
            return None
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"failed to parse image config: {error}") from error
        if config is None:
            raise UserError("invalid null image config for export")
        if not isinstance(config, dict):
            raise UserError("failed to parse image config: not an object")
        return config  # pyright: ignore[reportUnknownVariableType]

    def message(self) -> pb.Result:
        """Return it as the protocol has it."""
        message = pb.Result(metadata=self.metadata)
        if self.many is None:
            message.ref.CopyFrom(_ref(self.single))
        else:
            for key, reference in self.many.items():
                message.refs.refs[key].CopyFrom(_ref(reference))
        for key, some in self.attestations.items():
            for one in some:
                message.attestations[key].attestation.append(one.message(_ref(one.reference)))
        return message


def _ref(reference: LazyTree | None) -> pb.Ref:
    if reference is None:
        return pb.Ref()
    ref = pb.Ref(id=reference.id)
    definition = reference.definition()
    if definition is not None:
        ref.defs.CopyFrom(definition)
    return ref


def read_result(message: pb.Result, known: Mapping[str, LazyTree]) -> Result:
    """Read a client's result, made of references that it was given.

    Raises:
        RpcError: a reference that is not known.
    """

    def find(id: str) -> LazyTree | None:
        if not id:
            return None
        if id not in known:
            raise RpcError(Code.UNKNOWN, f"return reference {id} not found")
        return known[id]

    metadata = dict(message.metadata)
    attestations = {
        key: read_offered(some.attestation, find) for key, some in message.attestations.items()
    }
    return replace(_read_trees(message, metadata, find), attestations=attestations)


def _read_trees(
    message: pb.Result, metadata: dict[str, bytes], find: Callable[[str], LazyTree | None]
) -> Result:
    match message.WhichOneof("result"):
        case "refs":
            refs = {key: find(ref.id) for key, ref in message.refs.refs.items()}
            return Result(many=refs, metadata=metadata)
        case "refsDeprecated":
            old = {key: find(id) for key, id in message.refsDeprecated.refs.items()}
            return Result(many=old, metadata=metadata)
        case "ref":
            return Result(single=find(message.ref.id), metadata=metadata)
        case "refDeprecated":
            return Result(single=find(message.refDeprecated), metadata=metadata)
        case _:
            return Result(metadata=metadata)


def platforms_document(platforms: Iterable[tuple[str, Platform]]) -> bytes:
    """Return ``refs.platforms`` for *platforms* and the trees' names of them."""
    items = [{"ID": key, "Platform": platform.to_json()} for key, platform in platforms]
    return json.dumps({"Platforms": items}, separators=(",", ":")).encode()


def _platform(item: Mapping[str, Any]) -> Platform:
    if not (item.get("os") and item.get("architecture")):
        raise UserError(f"invalid platform value {dict(item)} for exporter")
    return Platform.make(
        str(item["os"]),
        str(item["architecture"]),
        str(item.get("variant", "")),
        str(item.get("os.version", "")),
    )
