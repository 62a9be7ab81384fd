"""The requests that made a client's definitions: those of builds that are still under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb import ops as pb


class Producers:
    """Requests by the op that their result comes from; for provenance [ATT-2].

    A definition can come from several requests; where these differ, nothing is said.
    """

    def __init__(self) -> None:
        self._made: dict[str, list[tuple[str, dict[str, Any]]]] = {}

    def add(self, definition: pb.Definition, build: str, document: dict[str, Any]) -> None:
        """Note that *build* made *definition* for a request."""
        head = _head(definition)
        if head:
            self._made.setdefault(head, []).append((build, _without_root(document)))

    def find(self, definition: pb.Definition) -> dict[str, Any] | None:
        """Return the request that made *definition*; None where that is not known."""
        documents = [document for _, document in self._made.get(_head(definition), ())]
        if not documents or any(other != documents[0] for other in documents[1:]):
            return None
        return documents[0]

    def builds(self, definitions: Iterable[pb.Definition]) -> list[str]:
        """Return the builds that made one of *definitions*, sorted."""
        made = (self._made.get(_head(definition), ()) for definition in definitions)
        return sorted({build for some in made for build, _ in some})

    def of_inputs(self, inputs: Mapping[str, pb.Definition]) -> dict[str, dict[str, Any]]:
        """Return the known ones of several definitions, by name."""
        documents = {name: self.find(definition) for name, definition in inputs.items()}
        return {
            name: document for name, document in sorted(documents.items()) if document is not None
        }

    def forget(self, build: str) -> None:
        """Drop the definitions of *build*: it has ended."""
        for head, made in list(self._made.items()):
            kept = [item for item in made if item[0] != build]
            if kept:
                self._made[head] = kept
            else:
                del self._made[head]


def _head(definition: pb.Definition) -> str:
    """The op whose result a definition is."""
    if not len(definition.defs):
        return ""
    try:
        last = pb.Op.FromString(definition.defs[-1])
    except DecodeError:
        return ""
    return last.inputs[0].digest if len(last.inputs) else ""


def _without_root(document: dict[str, Any]) -> dict[str, Any]:
    request = {name: value for name, value in document["request"].items() if name != "root"}
    return {**document, "request": request}
