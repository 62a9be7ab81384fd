"""Flags of buildkitd about workers: there is one here, and it needs none of them."""

from __future__ import annotations

from collections.abc import Sequence

# Flags of buildkitd about workers: there is one here, and it needs none of them.
_WORKERS = ("--oci-worker", "--containerd-worker")


_WORKERS_WITH_VALUE = frozenset(
    ("--oci-worker-snapshotter", "--oci-worker-net", "--oci-worker-platform")
    + ("--oci-worker-proxy-snapshotter-path", "--oci-cni-config-path", "--oci-cni-binary-dir")
    + ("--containerd-worker-addr", "--containerd-worker-namespace", "--containerd-worker-net")
)
_LABELS, _BINARY = "--oci-worker-labels", "--oci-worker-binary"


def without_workers(words: Sequence[str]) -> tuple[list[str], dict[str, str], str]:
    """Return the other words, the worker's labels, and its runtime."""
    rest: list[str] = []
    binary = ""
    labels: dict[str, str] = {}
    at = 0
    while at < len(words):
        word = words[at]
        name, equals, value = word.partition("=")
        at += 1
        if not name.startswith((*_WORKERS, "--oci-cni")):
            rest.append(word)
            continue
        if (
            not equals
            and (name in _WORKERS_WITH_VALUE or name in (_LABELS, _BINARY))
            and at < len(words)
        ):
            value = words[at]
            at += 1
        if name == _LABELS:
            key, _, text = value.partition("=")
            labels[key] = text
        elif name == _BINARY:
            binary = value
    return rest, labels, binary
