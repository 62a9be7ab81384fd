"""The flags of buildkitd; of those about workers few mean something: there is one here."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.model.options import Option

BUILDKITD = (
    Option("addr", "listening address", "ADDR", "", True),
    Option("allow-insecure-entitlement", "allow an entitlement", "NAME", "", True),
    Option("config", "configuration file", "FILE"),
    Option("debug", "debug output"),
    Option("group", "ignored", "GROUP"),
    Option("proxy-network", "let steps reach a proxy alone"),
    Option("root", "directory of the store", "DIR"),
    Option("rootless", "ignored"),
    Option("tlscacert", "authority of the clients' certificates", "FILE"),
    Option("tlscert", "certificate", "FILE"),
    Option("tlskey", "its key", "FILE"),
    Option("version", "show the version", short="v"),
)
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
