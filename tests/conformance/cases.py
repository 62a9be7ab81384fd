"""Cases as data: ``cases/<section>.toml`` holds many, keyed ``<ID>-<slug>``.

```toml
[CP-5-directory-source-copies-contents]
dockerfile = '''
FROM scratch
COPY dir /d/
'''
files."dir/f" = "text"                        # a regular file, 0644
files."dir/run" = { text = "…", mode = 0o755, mtime = 1000000000 }
files."dir/l" = { link = "f" }                # also: hardlink, fifo, socket, dir, xattrs
files."a.tar" = { tar = [{ name = "x", text = "…", uid = 5 }], compress = "gzip" }
```

| key | meaning |
|---|---|
| ``dockerfile`` | its text; the first line end after ``'''`` is TOML's |
| ``dockerfile_name`` | default ``Dockerfile``; any other is asked for with ``-f`` |
| ``files`` | the context |
| ``contexts`` | named contexts: name to ``files``, or to a reference as text |
| ``args``, ``labels``, ``secrets``, ``target``, ``platform``, ``network``, ``no_cache`` | of the build |
| ``fill`` | every ``@FILL@`` in the Dockerfile becomes that many ``x`` |
| ``mtimes`` | paths whose modification time is compared too |
| ``then`` | a second build: changed keys, merged; ``remove`` lists files. Its cached steps are compared |

The base image of all cases is the named context ``base``: a static busybox with the links of `TOOLS`.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import tarfile
import tomllib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"
EPOCH = 1_600_000_000  # of directories, and the earliest of files, whose time a case does not give
BUSYBOX = shutil.which("busybox") or "busybox"
TOOLS = (
    "sh cat chmod chown cp dd echo env find grep hostname id ip ln ls mkdir mkfifo mknod mv"
    " printenv printf pwd readlink rm rmdir sed sleep sort stat tar test touch true umask wc"
)
_KEYS = {
    "dockerfile",
    "dockerfile_name",
    "files",
    "contexts",
    "args",
    "labels",
    "secrets",
    "target",
    "platform",
    "network",
    "no_cache",
    "fill",
    "mtimes",
    "then",
}


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build to ask of both builders."""

    dockerfile: str
    dockerfile_name: str = "Dockerfile"
    files: Mapping[str, Any] = field(default_factory=dict[str, Any])
    contexts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    args: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    target: str = ""
    platform: str = ""
    network: str = ""
    no_cache: bool = False
    fill: int = 0
    mtimes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One behaviour. *then* makes it a case about the cache."""

    name: str
    section: str
    build: Build
    then: Build | None = None


def load_cases() -> list[Case]:
    """All cases, by section and in the order written."""
    return [case for path in sorted(CASES.glob("*.toml")) for case in _load(path)]


def _load(path: Path) -> Iterator[Case]:
    for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
        try:
            yield _case(name, path.stem, table)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{path.name}: {name}: {error}") from error


def _case(name: str, section: str, table: dict[str, Any]) -> Case:
    if unknown := sorted(set(table) - _KEYS):
        raise ValueError(f"unknown keys: {', '.join(unknown)}")
    then = table.pop("then", None)
    second: Build | None = None
    if then is not None:
        removed = then.pop("remove", [])
        files = {**table.get("files", {}), **then.pop("files", {})}
        kept = {path: spec for path, spec in files.items() if path not in removed}
        second = _build({**table, **then, "files": kept})
    return Case(name=name, section=section, build=_build(table), then=second)


def _build(table: dict[str, Any]) -> Build:
    build: dict[str, Any] = {**table, "mtimes": tuple(table.get("mtimes", ()))}
    return Build(**build)


@dataclass(frozen=True)
class Laid:
    """A build's inputs on disk."""

    context: Path
    dockerfile: Path
    contexts: dict[str, str]
    secrets: dict[str, Path]


def lay_out(build: Build, where: Path, base: Path) -> Laid:
    """Write what *build* reads below *where*, which must not exist."""
    context = where / "context"
    write_tree(context, build.files)
    dockerfile = context / build.dockerfile_name
    text = build.dockerfile.replace("@FILL@", "x" * build.fill)
    dockerfile.write_bytes(text.encode("utf-8", "surrogateescape"))
    os.utime(dockerfile, (EPOCH, EPOCH))
    os.utime(context, (EPOCH, EPOCH))
    contexts = {"base": str(base)}
    for name, spec in build.contexts.items():
        if isinstance(spec, str):
            contexts[name] = spec
        else:
            write_tree(where / "named" / name, spec)
            contexts[name] = str(where / "named" / name)
    secrets: dict[str, Path] = {}
    for name, value in build.secrets.items():
        secrets[name] = where / f"secret-{name}"
        secrets[name].write_text(value)
    return Laid(context, dockerfile, contexts, secrets)


def make_base(where: Path) -> Path:
    """The tree that ``FROM base`` starts from."""
    files: dict[str, Any] = {f"bin/{tool}": {"link": "busybox"} for tool in TOOLS.split()}
    files["etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
    files["etc/group"] = "root:x:0:\nstaff:x:50:app\napp:x:1001:\n"
    files["tmp"] = {"dir": True, "mode": 0o1777}
    files["root"] = {"dir": True, "mode": 0o700}
    for directory in ("dev", "proc", "sys"):
        files[directory] = {"dir": True}
    files["real/old"] = "old"
    files["link"] = {"link": "/real"}
    write_tree(where, files)
    shutil.copyfile(BUSYBOX, where / "bin/busybox")
    (where / "bin/busybox").chmod(0o755)
    for path in (where / "bin/busybox", where / "bin", where):
        os.utime(path, (EPOCH, EPOCH))
    return where


def write_tree(root: Path, files: Mapping[str, Any]) -> None:
    """Make a tree exactly so: modes, links, times; whatever the umask is."""
    root.mkdir(parents=True)
    root.chmod(0o755)
    for name, spec in files.items():
        path = root / name
        for parent in reversed(path.relative_to(root).parents):
            if not (root / parent).is_dir():
                (root / parent).mkdir()
                (root / parent).chmod(0o755)
        _write(path, {"text": spec} if isinstance(spec, str) else spec, root)
    # Times last, children first: making an entry changes its directory's.
    for top, directories, names in os.walk(root, topdown=False):
        for name in [*directories, *names]:
            path = Path(top, name)
            mtime = _mtime(str(path.relative_to(root)), files)
            os.utime(path, (mtime, mtime), follow_symlinks=False)
    os.utime(root, (EPOCH, EPOCH))


def _mtime(name: str, files: Mapping[str, Any]) -> int:
    """One that tells contents apart: builders may take equal sizes and times for the same file."""
    spec: Any = files.get(name)
    if isinstance(spec, dict) and "mtime" in spec:
        return int(spec["mtime"])  # pyright: ignore[reportUnknownArgumentType]
    whole = repr((name, spec))  # pyright: ignore[reportUnknownArgumentType]
    return EPOCH + (zlib.crc32(whole.encode()) % 10_000_000 if spec else 0)


def _write(path: Path, spec: dict[str, Any], root: Path) -> None:
    mode = 0o644
    if "link" in spec:
        path.symlink_to(spec["link"])
        return
    if "hardlink" in spec:
        os.link(root / spec["hardlink"], path)
        return
    if "fifo" in spec:
        os.mkfifo(path)
    elif "socket" in spec:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")  # a whole path may be too long
        os.close(folder)
    elif "device" in spec:
        major, minor = spec["device"]
        os.mknod(path, 0o020644, os.makedev(major, minor))
    elif spec.get("dir"):
        mode = 0o755
        path.mkdir(exist_ok=True)
    elif "tar" in spec:
        path.write_bytes(_archive(spec["tar"], spec.get("compress", "")))
    elif "bytes" in spec:
        path.write_bytes(bytes.fromhex(spec["bytes"]))
    else:
        path.write_bytes(_compressed(spec["text"].encode(), spec.get("compress", "")))
    if "owner" in spec:
        os.chown(path, *spec["owner"])
    path.chmod(spec.get("mode", mode))
    for name, value in spec.get("xattrs", {}).items():
        os.setxattr(path, name, bytes.fromhex(value))


_TYPES = {
    "dir": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def _archive(entries: list[dict[str, Any]], compress: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry["name"])
            kind = next((key for key in _TYPES if key in entry), "")
            info.type = _TYPES.get(kind, tarfile.REGTYPE)
            if kind in {"link", "hardlink"}:
                info.linkname = entry[kind]
            info.mode = entry.get("mode", 0o755 if kind == "dir" else 0o644)
            info.uid, info.gid = entry.get("uid", 0), entry.get("gid", 0)
            info.mtime = entry.get("mtime", EPOCH)
            data = entry.get("text", "").encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return _compressed(buffer.getvalue(), compress)


def _compressed(data: bytes, how: str) -> bytes:
    import bz2
    import lzma

    import zstandard

    match how:
        case "":
            return data
        case "gzip":
            return zlib.compress(data, 9, wbits=31)  # headers of `gzip` differ between Pythons
        case "bzip2":
            return bz2.compress(data)
        case "xz":
            return lzma.compress(data)
        case "zstd":
            return zstandard.ZstdCompressor().compress(data)
        case _:
            raise ValueError(f"compress: {how}")
