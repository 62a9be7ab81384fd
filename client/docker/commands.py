"""Commands about containers, images, networks and volumes on an engine far away; what they show is the caller's to print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pybuild.client.docker import acting, building, copying, images, looking, running
from pybuild.client.docker.creation import CreationOptions
from pybuild.client.docker.places import engine_place
from pybuild.client.docker.relay import relay
from pybuild.client.docker.requests import Requests
from pybuild.containers.namedlines import container_place
from pybuild.model.columns import (
    CONTAINERS,
    CONTAINERS_SHOWN,
    IMAGES,
    NETWORKS,
    NETWORKS_SHOWN,
    VOLUMES,
    VOLUMES_SHOWN,
)
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError, UserError
from pybuild.model.reference import parse_reference


@dataclass(frozen=True, slots=True)
class Listed:
    """Rows of docker's fields, the titles of these, and those that are shown."""

    rows: Sequence[looking.Row]
    titles: Mapping[str, str]
    shown: Sequence[str]


@dataclass(frozen=True, slots=True)
class Described:
    """Documents about the things that were named."""

    look: Callable[[str], looking.Row]


@dataclass(frozen=True, slots=True)
class Acted:
    """To be done to each thing that was named."""

    act: Callable[[str], str | bool | None]


@dataclass(frozen=True, slots=True)
class ToPrune:
    """Removals, if their user says so: *what*; *work* does it, and returns the names and the bytes."""

    title: str
    what: str
    work: Callable[[], tuple[Sequence[str], int]]


Outcome = Listed | Described | Acted | ToPrune | str | int
"""A text is printed, a number is the command's exit code."""

Options = CreationOptions
Far = Callable[[Requests, Options], Outcome]


def outcome(options: Options, name: str) -> Outcome:
    """Do the command *name* on the engine that ``-H`` names."""
    engine = Requests(engine_place(options))
    if name in acting.ACTS and not (name == "start" and _follows(options)):
        if not options.positionals:
            raise UsageError("start needs a container")
        return Acted(partial(acting.ACTS[name], engine, options))
    return _COMMANDS[name](engine, options)


def _follows(options: Options) -> bool:
    return options.flag("attach") or options.flag("interactive")


def _dial_stdio(engine: Requests, options: Options) -> int:
    relay(engine.place)
    return 0


def _context(engine: Requests, options: Options) -> str:
    """Return the variable, and the context, by which docker's client comes to the engine."""
    place = engine.place
    words = [f"host={place.url}", *(f"{name}={path}" for name, path in place.files)]
    return (
        f"export DOCKER_HOST={place.url}\n"
        f"docker context create pybuild --docker {shlex.quote(','.join(words))}\n"
    )


def _start(engine: Requests, options: Options) -> int:
    if len(options.positionals) != 1:
        raise UsageError("you cannot start and attach multiple containers at once")
    return running.start(engine, options, options.positionals[0])


def _ps(engine: Requests, options: Options) -> Listed:
    shown = [*CONTAINERS_SHOWN, *(["Size"] if options.flag("size") else [])]
    return Listed(looking.containers(engine, options), CONTAINERS, shown)


def _images(engine: Requests, options: Options) -> Listed:
    shown = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if options.flag("digests"):
        shown.insert(2, "Digest")
    return Listed(looking.images(engine, options, "".join(options.positionals)), IMAGES, shown)


def _inspect(kind: str) -> Far:
    def inspect(engine: Requests, options: Options) -> Described:
        chosen, sized = kind or options.one("type"), options.flag("size")
        return Described(partial(looking.document, engine, chosen, sized))

    return inspect


def _top(engine: Requests, options: Options) -> str:
    rows = looking.processes(engine, options.positionals[0], options.positionals[1:])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = [
        [*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last]
        for *cells, last in rows
    ]
    return "".join(" ".join(line) + "\n" for line in lines)


def _port(engine: Requests, options: Options) -> str:
    name, *given = options.positionals
    number, _, protocol = "".join(given).partition("/")
    published = looking.published(engine, name)
    if not given:
        return "".join(f"{one.key} -> {one.place}\n" for one in published)
    bound = [one.place for one in published if one.key == f"{number}/{protocol or 'tcp'}"]
    if not bound:
        raise UserError(
            f"no public port '{given[0]}' published for {name}",
            hints=[f"pybuild port {name} lists what is published"],
        )
    return "".join(f"{place}\n" for place in bound)


def _diff(engine: Requests, options: Options) -> str:
    changes = looking.changes(engine, options.positionals[0])
    return "".join(f"{kind} {path}\n" for kind, path in changes)


def _say(options: Options) -> images.Say:
    quiet = options.flag("quiet") or options.one("progress") in ("quiet", "none")
    return lambda line: None if quiet else print(line, file=sys.stderr, flush=True)


def _bring(engine: Requests, options: Options) -> Callable[[str], None]:
    return lambda name: _ignore(images.pull(engine, options, name, _say(options)))


def _ignore(value: object) -> None: ...


def _pull(engine: Requests, options: Options) -> str:
    return f"{images.pull(engine, options, options.positionals[0], _say(options))}\n"


def _push(engine: Requests, options: Options) -> str:
    lines = images.push(engine, options, options.positionals[0], _say(options))
    return "".join(f"{line}\n" for line in lines)


def _tag(engine: Requests, options: Options) -> int:
    reference = parse_reference(options.positionals[1])
    acting.tag(engine, options.positionals[0], reference.repository, reference.tag or "latest")
    return 0


def _cp(engine: Requests, options: Options) -> int:
    source, dest = map(container_place, options.positionals)
    if bool(source[0]) == bool(dest[0]):
        raise UsageError("one of the two must be in a container: CONTAINER:PATH")
    owners = options.flag("archive")
    if source[0]:
        copying.copy_out(engine, *source, dest[1], owners=owners)
    else:
        follow = options.flag("follow-link")
        copying.copy_in(engine, dest[0], source[1], dest[1], follow=follow, owners=owners)
    return 0


def _prune(noun: str, what: str) -> Far:
    def prune(engine: Requests, options: Options) -> ToPrune:
        filters, all = options.many("filter"), options.flag("all")
        work = partial(acting.prune, engine, noun, filters, all=all)
        return ToPrune(f"Deleted {noun.capitalize()}:", what, work)

    return prune


def _line(work: Callable[[Requests, Options], str]) -> Far:
    return lambda engine, options: work(engine, options) + "\n"


def _silent(work: Callable[[Requests, Options], None]) -> Far:
    def act(engine: Requests, options: Options) -> int:
        work(engine, options)
        return 0

    return act


_COMMANDS: Mapping[str, Far] = {
    "build": lambda engine, options: building.build(engine, options, _say(options)),
    "attach": lambda engine, options: running.attach(engine, options, options.positionals[0]),
    "container inspect": _inspect("container"),
    "context": _context,
    "container prune": _prune("containers", "all stopped containers"),
    "cp": _cp,
    "create": _line(lambda e, p: running.create(e, p, _bring(e, p))),
    "diff": _diff,
    "exec": running.execute,
    "image inspect": _inspect("image"),
    "image prune": _prune("images", "images that nothing uses"),
    "images": _images,
    "inspect": _inspect(""),
    "logs": lambda engine, options: running.logs(engine, options, options.positionals[0]),
    "network connect": _silent(lambda e, p: acting.connect(e, p, *p.positionals)),
    "network create": _line(lambda e, p: acting.create_network(e, p, p.positionals[0])),
    "network disconnect": _silent(lambda e, p: acting.disconnect(e, p, *p.positionals)),
    "network inspect": _inspect("network"),
    "network ls": lambda e, p: Listed(looking.networks(e, p), NETWORKS, NETWORKS_SHOWN),
    "network prune": _prune("networks", "all networks that no container uses"),
    "port": _port,
    "ps": _ps,
    "pull": _pull,
    "push": _push,
    "rename": _silent(lambda e, p: acting.rename(e, *p.positionals)),
    "run": lambda engine, options: running.run(engine, options, _bring(engine, options)),
    "start": _start,
    "system dial-stdio": _dial_stdio,
    "tag": _tag,
    "top": _top,
    "volume create": _line(lambda e, p: acting.create_volume(e, p, "".join(p.positionals))),
    "volume inspect": _inspect("volume"),
    "volume ls": lambda e, p: Listed(looking.volumes(e, p), VOLUMES, VOLUMES_SHOWN),
    "volume prune": _prune("volumes", "local volumes not used by at least one container"),
}
NAMES = frozenset((*acting.ACTS, *_COMMANDS))
"""The commands that an engine elsewhere does."""
