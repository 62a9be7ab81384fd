"""The outcome of a build as comparable data; the same for every builder.

```json
{"config": {…}, "history": […], "layers": [{"d/f": "file 0644 0:0 12 8c7dd922ad47494f"}], "steps": {…}}
{"error": "…", "lines": "2"}
```

Left out is what cannot be equal: times, digests of whole layers, ids made up for one build, and the
bytes of busybox.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import tarfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.conformance.cases import BUSYBOX

Outcome = dict[str, Any]
_EXPORTER = "buildkit.exporter.image.v0"
_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def read_image(archive: Path, mtimes: Iterable[str] = ()) -> Outcome:
    """Config, history and layers of the one image in an OCI archive."""
    with tarfile.open(archive) as tar:

        def blob(digest: str) -> bytes:
            file = tar.extractfile("blobs/" + digest.replace(":", "/"))
            assert file is not None, digest
            return file.read()

        index_file = tar.extractfile("index.json")
        assert index_file is not None
        index = json.load(index_file)
        assert len(index["manifests"]) == 1, index
        manifest = json.loads(blob(index["manifests"][0]["digest"]))
        assert "config" in manifest, manifest
        config = json.loads(blob(manifest["config"]["digest"]))
        history: list[dict[str, Any]] = config.pop("history", None) or []
        layers: list[dict[str, str]] = []
        for layer in manifest["layers"] or ():  # BuildKit writes null
            with tar.extractfile("blobs/" + layer["digest"].replace(":", "/")) as file:  # type: ignore[union-attr]
                layers.append(_read_layer(file, frozenset(mtimes)))
    assert len(layers) == len(config["rootfs"]["diff_ids"] or ()), config
    del config["rootfs"]
    if config.pop("created", None) is None:
        config["created"] = "missing"
    if config["architecture"] == _ARCH:
        del config["architecture"]  # that of the machine
    return {
        "config": config,
        # An exporter makes entries up for layers that no instruction made: the base, here.
        "history": [_history(e) for e in history if e.get("comment") != _EXPORTER],
        "layers": layers,
    }


def _history(entry: dict[str, Any]) -> str:
    """One line: what is unusual about an entry stands before it."""
    text = str(entry.get("created_by", ""))
    if entry.get("comment") != "buildkit.dockerfile.v0":
        text = f"({entry.get('comment', 'no comment')}) {text}"
    if entry.get("author"):
        text = f"[{entry['author']}] {text}"
    return ("- " if entry.get("empty_layer") else "+ ") + text


def _read_layer(file: Any, mtimes: frozenset[str]) -> dict[str, str]:
    entries: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        for info in tar:
            name = info.name.rstrip("/")
            assert name not in entries, f"{name} is twice in a layer"
            entries[name] = _describe(tar, info, name in mtimes)
    if "bin/busybox" in entries:  # the base: recorded once and for all by its size alone
        return {"bin/busybox": "the base"}
    return dict(sorted(entries.items()))


def _describe(tar: tarfile.TarFile, info: tarfile.TarInfo, with_mtime: bool) -> str:
    words = [f"{info.mode:04o} {info.uid}:{info.gid}"]
    if info.islnk():
        return f"hardlink {info.linkname}"
    if info.issym():
        words = [f"link {words[0]} {info.linkname}"]
    elif info.isdir():
        words.insert(0, "dir")
    elif info.isfifo():
        words.insert(0, "fifo")
    elif info.ischr() or info.isblk():
        words.insert(0, f"{'char' if info.ischr() else 'block'} {info.devmajor}:{info.devminor}")
    else:
        data = tar.extractfile(info)
        assert data is not None
        content = data.read()
        digest = hashlib.sha256(content).hexdigest()[:16]
        if digest == _busybox():
            words.append("busybox")
        elif content and len(content) <= 40 and _is_plain(content):
            words.append(json.dumps(content.decode()))
        else:
            words += [str(info.size), digest]
        words.insert(0, "file")
    for key, value in sorted(info.pax_headers.items()):
        if key.startswith("SCHILY.xattr."):
            raw = value.encode("utf-8", "surrogateescape")
            words.append(f"{key.removeprefix('SCHILY.xattr.')}={raw.hex()}")
    if with_mtime:
        words.append(f"@{float(info.mtime):.0f}")
    return " ".join(words)


def _is_plain(content: bytes) -> bool:
    return all(byte in b"\n\t" or 32 <= byte < 127 for byte in content)


@cache
def _busybox() -> str:
    return hashlib.sha256(Path(BUSYBOX).read_bytes()).hexdigest()[:16]


_NORMAL = [
    (re.compile(r"^failed to solve(?: with frontend dockerfile\.v0)?: "), ""),
    (re.compile(r"rpc error: code = \w+ desc = "), ""),
    (re.compile(r"checksum of ref \S+: "), "checksum of ref …: "),
    (
        re.compile(
            r"/[^\s:\"]*/(?:snapshots/\d+/fs|containerd-mount\d+|cachemounts/buildkit\d+)(?=/|\b)"
        ),
        "",
    ),
]


def failure(message: str, lines: str) -> Outcome:
    """A failed build: its message without what is made up for one build, and the lines marked."""
    message = message.strip()
    for pattern, replacement in _NORMAL:
        message = pattern.sub(replacement, message)
    return {"error": message, "lines": lines}


def line_range(lines: Iterable[int]) -> str:
    """``3`` or ``3-5``; empty when no line is known."""
    known = sorted(lines)
    if not known:
        return ""
    return str(known[0]) if known[0] == known[-1] else f"{known[0]}-{known[-1]}"


def final_tree(layers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Apply layers as [OCI image layers] say: whiteouts, opaque directories, replacements."""
    tree: dict[str, str] = {}
    for layer in layers:
        for name in layer:
            head, _, last = name.rpartition("/")
            if last == ".wh..wh..opq":
                _drop(tree, head, itself=False)
            elif last.startswith(".wh."):
                _drop(tree, f"{head}/{last[4:]}".lstrip("/"), itself=True)
        for name, entry in layer.items():
            if name.rpartition("/")[2].startswith(".wh."):
                continue
            if not entry.startswith("dir "):
                _drop(tree, name, itself=True)
            tree[name] = entry
    return dict(sorted(tree.items()))


def _drop(tree: dict[str, str], name: str, *, itself: bool) -> None:
    for path in [path for path in tree if path.startswith(name + "/")]:
        del tree[path]
    if itself:
        tree.pop(name, None)


def compare(expected: Outcome, actual: Outcome) -> list[str]:
    """Every difference in a line of its own; empty when equal."""
    if "error" in expected:
        actual = {**actual, "error": _as_brief(str(actual.get("error")), str(expected["error"]))}
    if not expected.get("lines") and "lines" in actual:
        actual = {**actual, "lines": expected.get("lines")}  # and so is a place where it has none
    if "error" in expected or "error" in actual:
        return _compare_maps("", expected, actual)
    found: list[str] = []
    for key in sorted(set(expected) | set(actual) - {"layers"}):
        if key == "layers":
            continue
        found += _compare_values(key, expected.get(key), actual.get(key))
    one, other = expected.get("layers", []), actual.get("layers", [])
    if len(one) != len(other):
        found.append(f"layers: {len(one)} expected, got {len(other)}")
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        found += _compare_maps(f"layer {number}: ", left, right)
    found += _compare_maps("final tree: ", final_tree(one), final_tree(other))
    return found


def _as_brief(actual: str, expected: str) -> str:
    """*expected* where *actual* says the same and only adds where it happened, or why."""
    place = re.match(r"dockerfile parse error on line \d+: |/\S+: ignore file line \d+: ", actual)
    bare = actual[place.end() :] if place else actual
    return expected if bare == expected or bare.startswith(f"{expected}: ") else actual


def _compare_values(key: str, expected: Any, actual: Any) -> list[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        return _compare_maps(f"{key}: ", expected, actual)  # pyright: ignore
    if isinstance(expected, list) and isinstance(actual, list):
        left = dict(enumerate(expected))  # pyright: ignore
        return _compare_maps(f"{key} ", left, dict(enumerate(actual)))  # pyright: ignore
    return [] if expected == actual else [f"{key}: expected {expected!r}, got {actual!r}"]


def _compare_maps(where: str, expected: Mapping[Any, Any], actual: Mapping[Any, Any]) -> list[str]:
    found: list[str] = []
    for key in sorted(set(expected) | set(actual)):
        left, right = expected.get(key), actual.get(key)
        if left != right:
            found.append(f"{where}{key}: expected {left!r}, got {right!r}")
    return found
