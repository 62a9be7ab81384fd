"""RUN as an exec [RUN, HD-8..12, MNT]."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from pybuild.frontend.lowering import paths
from pybuild.frontend.lowering.interface import LowerOptions
from pybuild.frontend.lowering.mounts import MountSpec, absolute_target, parse_device, parse_mount
from pybuild.frontend.lowering.names import summary
from pybuild.frontend.lowering.stages import StageNode, Step
from pybuild.frontend.lowering.stagestate import SCRATCH, StageState, chomped
from pybuild.frontend.syntax import ast
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    CacheSharing,
    ExecOp,
    FileOp,
    GitSource,
    HostMount,
    HttpSource,
    Mkfile,
    Mount,
    MountType,
    NetworkMode,
    SecurityMode,
    StepSettings,
    Vertex,
    VertexMeta,
)

_LONE_HEREDOC = re.compile(r"[0-9]*<<-?((?:[^\s<'\"\\]|\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\")+)\Z")
_PIPES = "/dev/pipes"
_EXPANDED = re.compile(r"\$\{?([A-Za-z_]\w*)")
_MOUNTED = re.compile(r"(?:env|id)=(\w+)")

FindTree = Callable[[StageNode], Vertex | None]


def apply_run(state: StageState, at: ast.Run, step: Step, tree_of: FindTree) -> None:
    """Add a step to the stage.

    Args:
        tree_of: returns a node's finished tree, None when it comes later.

    Raises:
        UserError: a flag or mount that cannot be.
    """
    if state.is_windows:
        raise UserError(f"platform {state.platform} is not supported for RUN: steps run on linux")
    inputs = _Inputs(state.vertex)
    command, note, script = _command(state, at)
    if at.command.is_shell and script is None and "$" in command[-1]:
        _advise(state, at, command)
    mounts = [Mount(target="/", input=0, output=True)]
    if script is not None:
        mounts.append(Mount(target=_PIPES, input=inputs.index(script), readonly=True))
    specs = [parse_mount(record, state.expander(at)) for record in at.flag_list("mount")]
    env = state.env
    state.scope.spend(8 * len(env))
    sockets: list[str] = []
    for spec, node in zip(specs, step.sources, strict=True):
        source = None if node is None else tree_of(node)
        if node is not None and source is None:
            raise UserError(
                f'cannot mount from stage "{spec.from_name}" to "{spec.target}", stage needs to be'
                " defined before current command"
            )
        mounts.append(_mount(state, spec, source, inputs, sockets))
    if sockets and "SSH_AUTH_SOCK" not in env:
        env = env.copy()
        env.set("SSH_AUTH_SOCK", sockets[0])

    masks = {mount.env: "****" for mount in mounts if mount.env}
    host_mounts: tuple[HostMount, ...] = ()
    if state.scope.options.volumes:
        from pybuild.frontend.lowering.volumes import add_volumes

        host_mounts = add_volumes(state.scope, mounts, inputs.index)
    if state.scope.notes is not None:
        for url in state.scope.notes.probes_above(at):
            inputs.index(_probe(state, at, url))  # it counts in the key, and no mount shows it
    # The root first, and parents before what lies in them [MNT-17].
    mounts.sort(key=lambda mount: (mount.target != "/", mount.target))
    title = state.title(at.original + note, keep=True, masks=masks)
    prefix = state.names.next(state.platform, state.env, triggered=step.triggered)
    op = ExecOp(
        args=tuple(command),
        env=env.pairs(),
        cwd=paths.clean(state.cwd),
        user=state.image.user,
        mounts=tuple(mounts),
        security=_security(at),
        platform=state.platform,
        proxy_env=state.scope.proxy_env,
        devices=tuple(map(parse_device, at.flag_list("device"))),
        host_mounts=host_mounts,
        settings=_settings(at, state.scope.options),
    )
    state.vertex = Vertex(op, inputs.vertices, state.meta(prefix + title, at))
    history = " ".join([*_shown_args(state), *command])
    state.commit(f"RUN {history} # buildkit", state.vertex)


def _probe(state: StageState, at: ast.Run, written: str) -> Vertex:
    """Return the file of a probe above a step: it is asked for in each build, as that of an ADD."""
    from pybuild.frontend.lowering.notes import probe_source

    source: HttpSource | GitSource = probe_source(state.expander(at)(written))
    if state.scope.options.policies:
        from pybuild.frontend.lowering.policies import ruled

        source = ruled(state.scope.options.policies, source)
    title = state.title(f"PROBE {written}")
    return Vertex(source, meta=state.meta(f"[internal] {title}", at, ignorable=False))


def _advise(state: StageState, at: ast.Run, command: list[str]) -> None:
    """Look for variables that nothing has set, where all that the base image sets is known."""
    if not state.base_known:
        return
    mounted = _MOUNTED.findall(" ".join(at.flag_list("mount")))
    known = {*state.env, *state.declared, *mounted}
    if known.issuperset(_EXPANDED.findall(command[-1])):
        return
    from pybuild.frontend.lint.shelltext import (
        advise_on_run,
    )  # its patterns take a while to compile

    advise_on_run(at, command, known, state.scope.globals, state.scope.report)


class _Inputs:
    """The vertex's inputs, each once; the root is number 0 and is never shared with a mount."""

    def __init__(self, root: Vertex) -> None:
        self._items = [root]

    def index(self, vertex: Vertex) -> int:
        for number, item in enumerate(self._items[1:], 1):
            if item is vertex:
                return number
        self._items.append(vertex)
        return len(self._items) - 1

    @property
    def vertices(self) -> tuple[Vertex, ...]:
        return tuple(self._items)


def _command(state: StageState, at: ast.Run) -> tuple[list[str], str, Vertex | None]:
    """Return the argument vector, a note for the step's name, and a script to mount, if any."""
    command = at.command
    if not command.is_shell:
        if not command.args:
            raise UserError("RUN requires at least one argument")
        return list(command.args), "", None
    text = " ".join(command.args)
    if not command.heredocs:
        return state.image.shell_command(text), "", None
    first = command.heredocs[0]
    if len(command.heredocs) > 1 or not _LONE_HEREDOC.match(text):
        # The shell has here-documents itself: give it back what was written [HD-9].
        for heredoc in command.heredocs:
            text += f"\n{heredoc.content}{heredoc.name}"
        return state.image.shell_command(text), "", None
    body, note = chomped(first), f" ({summary(first.content)})"
    if not body.startswith("#!"):
        return state.image.shell_command(body), note, None
    path = paths.clean(first.name)
    if path == "/":
        raise UserError(f'"{first.name}" cannot be the name of a script')
    data = body.encode("utf-8", "surrogateescape")
    script = Vertex(
        FileOp(actions=(Mkfile(path=path, data=data, mode=0o755),)),
        (SCRATCH,),
        VertexMeta(name="[internal] preparing inline document", spans=(at.span,)),
    )
    # The peer's shell starts it too, so that history and cache keys are the same [HD-8].
    return state.image.shell_command(_PIPES + path), note, script


def _mount(
    state: StageState, spec: MountSpec, source: Vertex | None, inputs: _Inputs, sockets: list[str]
) -> Mount:
    match spec.type:
        case MountType.BIND:
            tree = source or state.scope.local("context")
            return Mount(
                target=absolute_target(spec, state.cwd),
                input=inputs.index(tree),
                selector=paths.clean(spec.source),
                readonly=spec.readonly is not False,
            )
        case MountType.CACHE:
            return _cache_mount(state, spec, source, inputs)
        case MountType.TMPFS:
            return Mount(
                target=absolute_target(spec, state.cwd),
                type=spec.type,
                readonly=spec.readonly is True,
                tmpfs_size_bytes=spec.size_bytes,
            )
        case MountType.SECRET:
            return _secret_mount(state, spec)
        case MountType.SSH:
            target = f"/run/buildkit/ssh_agent.{len(sockets)}"
            if spec.target:
                target = absolute_target(spec, state.cwd)
            sockets.append(target)
            return Mount(
                target=target,
                type=spec.type,
                readonly=spec.readonly is not False,
                id=spec.id or "default",
                required=spec.required,
                uid=spec.uid or 0,
                gid=spec.gid or 0,
                mode=0o600 if spec.mode is None else spec.mode,
            )


def _cache_mount(
    state: StageState, spec: MountSpec, source: Vertex | None, inputs: _Inputs
) -> Mount:
    namespace = state.scope.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS", "")
    cache_id = spec.id or (paths.clean(spec.target) if spec.target[:1] == "/" else spec.target)
    if not cache_id:
        cache_id = "."
    selector = paths.clean(spec.source)
    # Owner and mode are those of a new, empty cache; a part of a seed has its own [MNT-15].
    owned = selector == "/" and not (spec.uid is spec.gid is spec.mode is None)
    mode = (0o755 if spec.mode is None else spec.mode) if owned else None
    return Mount(
        target=absolute_target(spec, state.cwd),
        type=spec.type,
        input=None if source is None else inputs.index(source),
        selector=selector,
        readonly=spec.readonly is True,
        cache_id=f"{namespace}/{cache_id}" if namespace else cache_id,
        sharing=spec.sharing or CacheSharing.SHARED,
        uid=(spec.uid or 0) if owned else 0,
        gid=(spec.gid or 0) if owned else 0,
        mode=mode,
    )


def _secret_mount(state: StageState, spec: MountSpec) -> Mount:
    name = spec.source or spec.id or spec.target.rstrip("/").rpartition("/")[2]
    if not name:
        raise UserError("invalid secret mount. one of source, target required")
    target = ""
    if spec.target:
        target = absolute_target(spec, state.cwd)
    elif spec.env is None:
        target = paths.clean("/run/secrets/" + name.rstrip("/").rpartition("/")[2])
    return Mount(
        target=target,
        type=MountType.SECRET,
        readonly=spec.readonly is not False,
        id=name,
        required=spec.required,
        env="" if spec.env is None else spec.env or name,
        uid=spec.uid or 0,
        gid=spec.gid or 0,
        mode=0o400 if spec.mode is None else spec.mode,
        value=state.scope.options.secret_values.get(name, ""),
    )


def _settings(at: ast.Run, options: LowerOptions) -> StepSettings:
    """Return the request's settings, but for a network and a host name that win over them [EV-12]."""
    settings = options.steps
    text = at.flag("network") or "default"
    try:
        mode = NetworkMode(text)
    except ValueError:
        raise UserError(f"invalid network mode: {text}") from None
    if mode is not NetworkMode.DEFAULT:
        settings = replace(settings, network=mode)
    if "BUILDKIT_SANDBOX_HOSTNAME" in options.build_args:
        settings = replace(settings, hostname=options.build_args["BUILDKIT_SANDBOX_HOSTNAME"])
    return settings


def _security(at: ast.Run) -> SecurityMode:
    text = at.flag("security") or "sandbox"
    try:
        return SecurityMode(text)
    except ValueError:
        raise UserError(f'security "{text}" is not valid') from None


def _shown_args(state: StageState) -> list[str]:
    """Return ``|2 A=1 B=x``: each declared ARG where it first stood, with its value now."""
    if not state.scope.has_titles:  # nor does anybody read the history of a check
        return []
    values: dict[str, str] = {}
    env: Mapping[str, str] = state.env
    for name, value in state.args:
        values[name] = env.get(name, value or "")
    if not values:
        return []
    return [f"|{len(values)}", *(f"{name}={value}" for name, value in values.items())]
