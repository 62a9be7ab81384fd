"""``build`` by an engine far away: the context goes there as a tar, lines of progress come back [EP-5].

It is the way from systems that are no Unix, and where an address speaks Docker's API and not BuildKit's; secrets, caches and other
things of BuildKit's sessions need its address.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from pybuild.client.docker import images
from pybuild.client.docker.creation import CreationOptions
from pybuild.client.docker.requests import EngineRefusal, Requests, named
from pybuild.client.docker.unpacking import checked
from pybuild.frontend.ignore import parse_ignore
from pybuild.model.amounts import parse_binary_size
from pybuild.model.errors import UsageError, UserError
from pybuild.model.jsontext import as_object
from pybuild.model.patterns import PatternMatcher
from pybuild.model.printable import in_log
from pybuild.model.tarplaces import write_as_it_is
from pybuild.model.text import split_csv

_DOCKERFILES = ("Dockerfile", "dockerfile", "Containerfile")
_IGNORE_FILES = (".dockerignore", ".containerignore")
_OF_BUILD = frozenset(
    ("add-host", "build-arg", "file", "label", "load", "network", "no-cache", "output", "platform")
    + ("progress", "pull", "push", "quiet", "shm-size", "tag", "target", "iidfile", "debug")
    + ("host", "builder", "tlscacert", "tlscert", "tlskey", "tlsservername", "authfile", "creds")
)
_SENT_NAME = ".dockerfile.of-the-build"
"""The name in the context of a Dockerfile that does not lie in it."""
_WRITABLE = 0o200
_MOST_DOCKERFILE = 64 << 20


def build(engine: Requests, options: CreationOptions, say: images.Say) -> int:
    """Build, and bring what is wanted: a name, a tree here, a push."""
    for name in options.values:
        if name not in _OF_BUILD and any(options.values[name]):
            raise UsageError(
                f"--{name} is not done over Docker's API",
                hints=["give the address of the build server with -H: pybuild daemon --addr"],
            )
    target = _target(options)
    query = _query(options)
    image = ""
    quiet = options.flag("quiet")
    headers = {"Content-Type": "application/x-tar", **images.logins(options)}
    with _context(options, query) as body:
        for line in engine.lines("POST", "/build", query, body, headers=headers):
            image = str(as_object(line.get("aux")).get("ID", image))
            if not quiet and (text := str(line.get("stream", ""))):
                say(in_log(text.rstrip("\n")))
    if target is not None:
        _bring(engine, image, *target)
    if options.flag("push"):
        for name in options.many("tag"):
            images.push(engine, options, name, say)
    if path := options.one("iidfile"):
        with open(path, "w", encoding="ascii") as file:
            file.write(image)
    if quiet:
        sys.stdout.write(f"{image}\n")
    return 0


def _query(options: CreationOptions) -> dict[str, Any]:
    platforms = [one for text in options.many("platform") for one in text.split(",")]
    if len(platforms) > 1:
        raise UsageError("one platform at a time is built over Docker's API")
    query: dict[str, Any] = {
        "t": options.many("tag"),
        "target": options.one("target"),
        "platform": "".join(platforms),
        "nocache": options.flag("no-cache"),
        "pull": options.flag("pull"),
        "networkmode": options.one("network"),
        "extrahosts": [text.replace("=", ":", 1) for text in options.many("add-host")],
        "buildargs": json.dumps(_pairs(options.many("build-arg"), from_here=True)),
        "labels": json.dumps(_pairs(options.many("label"), from_here=False)),
        "shmsize": _bytes(options.one("shm-size")),
    }
    return {name: value for name, value in query.items() if value not in ("", [], False, "{}")}


def _bytes(text: str) -> str:
    return str(parse_binary_size(text, "shm-size")) if text else ""


def _pairs(texts: Sequence[str], *, from_here: bool) -> Mapping[str, str]:
    """Return ``KEY=VALUE`` as a map; of an argument without a value, the variable of that name."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals and from_here:
            if key not in os.environ:
                continue
            value = os.environ[key]
        pairs[key] = value
    return pairs


def _target(options: CreationOptions) -> tuple[str, str] | None:
    """Return the kind and the place of the one output here; None: the image stays on the engine."""
    texts = options.many("output")
    if not texts:
        return None
    if len(texts) > 1:
        raise UsageError("one --output at a time is done over Docker's API")
    fields: dict[str, str] = {}
    for one in split_csv(texts[0]):
        name, _, value = one.partition("=")
        fields[name] = value
    if len(fields) == 1 and "" in fields.values():
        (place,) = fields
        return ("tar", "-") if place == "-" else ("local", place)
    kind, place = fields.get("type", ""), fields.get("dest", "")
    if kind not in ("local", "tar") or not place:
        raise UsageError(
            f'output "{texts[0]}" is not done over Docker\'s API: type=local and type=tar are, with a dest'
        )
    return kind, place


# --- the context ----------------------------------------------------------------------------------


@contextmanager
def _context(options: CreationOptions, query: dict[str, Any]) -> Generator[BinaryIO | None]:
    """Give the body that is the context, and have *query* name its Dockerfile."""
    where = options.positionals[0]
    named_file = options.one("file")
    if "://" in where or where.startswith("git@"):
        query |= {"remote": where, **({"dockerfile": named_file} if named_file else {})}
        yield None
        return
    if where == "-":
        if named_file:
            query["dockerfile"] = named_file
        yield sys.stdin.buffer
        return
    if not os.path.isdir(where):
        raise UserError(f'context directory "{where}" does not exist')
    path = named_file or next(
        (p for p in (os.path.join(where, n) for n in _DOCKERFILES) if os.path.exists(p)), ""
    )
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            query["dockerfile"] = _write(archive, where, path)
        file.seek(0)
        yield cast("BinaryIO", file)


def _write(archive: tarfile.TarFile, context: str, dockerfile: str) -> str:
    """Write the context without what its ignore file names; return the Dockerfile's name in it."""
    matcher = PatternMatcher(_patterns(context, dockerfile))
    name = ""
    inside = os.path.relpath(dockerfile, context).replace(os.sep, "/") if dockerfile else "-"
    for relative, path in _files(context, matcher):
        member = archive.gettarinfo(path, relative)
        if member is None:  # pyright: ignore[reportUnnecessaryComparison]
            continue  # a socket
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        if os.name == "nt":  # which has no modes: as docker's client sends it from there
            member.mode = 0o755
        if member.isreg():
            with open(path, "rb") as file:
                archive.addfile(member, file)
        else:
            archive.addfile(member)
        if relative == inside:
            name = inside
    if name or not dockerfile:
        return name or _DOCKERFILES[0]
    if dockerfile == "-":
        text = sys.stdin.buffer.read(_MOST_DOCKERFILE)
    else:
        with open(dockerfile, "rb") as file:
            text = file.read(_MOST_DOCKERFILE)
    member = tarfile.TarInfo(_SENT_NAME)
    member.size = len(text)
    archive.addfile(member, io.BytesIO(text))
    return _SENT_NAME


def _patterns(context: str, dockerfile: str) -> Sequence[str]:
    of_file = [f"{dockerfile}.dockerignore"] if dockerfile not in ("", "-") else []
    for path in (*of_file, *(os.path.join(context, name) for name in _IGNORE_FILES)):
        with suppress(FileNotFoundError), open(path, "rb") as file:
            return parse_ignore(file.read())
    return ()


def _files(context: str, matcher: PatternMatcher) -> Iterator[tuple[str, str]]:
    """Yield what is sent, by its name in the context; directories before what is in them."""
    for folder, folders, files in os.walk(context):
        folders.sort()
        below = os.path.relpath(folder, context).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        links = [one for one in folders if os.path.islink(os.path.join(folder, one))]
        if prefix and not matcher.matches(below):
            yield below, folder
        for name in sorted((*files, *links)):
            if not matcher.matches(prefix + name):
                yield prefix + name, os.path.join(folder, name)


# --- results --------------------------------------------------------------------------------------


def _bring(engine: Requests, image: str, kind: str, place: str) -> None:
    """Bring the image's tree here, out of a container that is never started."""
    made = engine.ask("POST", "/containers/create", None, {"Image": image, "Cmd": ["-"]})
    try:
        with engine.asking("GET", named("containers", made["Id"], "export")) as response:
            stream = cast("BinaryIO", response)
            if kind == "local":
                _unpack(stream, place)
            elif place == "-":
                shutil.copyfileobj(stream, sys.stdout.buffer)
                sys.stdout.flush()
            else:
                with open(place, "wb") as file:
                    shutil.copyfileobj(stream, file)
    finally:
        with suppress(EngineRefusal):
            engine.ask("DELETE", named("containers", made["Id"]), {"force": True})


def _unpack(stream: BinaryIO, place: str) -> None:
    """Unpack a tree; links and names that lead out of it are refused."""
    os.makedirs(place, exist_ok=True)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isdev():
                continue
            made = checked(member, place)
            if made.isdir():  # what is in it comes after it
                made.mode |= _WRITABLE
            write_as_it_is(archive, made, place, numeric_owner=False)
