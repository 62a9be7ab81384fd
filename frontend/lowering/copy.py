"""COPY, ADD and WORKDIR as file actions [CP, ADD, WD-1]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pybuild.frontend.giturl import GitUrl, file_name, is_http, parse_git_url
from pybuild.frontend.lint.ignoredfiles import check_ignored
from pybuild.frontend.lint.workdirs import check_workdir
from pybuild.frontend.lowering import paths
from pybuild.frontend.lowering.stagestate import SCRATCH, StageState
from pybuild.frontend.syntax import ast
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    Copy,
    FileOp,
    GitSource,
    HttpSource,
    MergeOp,
    Mkdir,
    Mkfile,
    Owner,
    ScratchSource,
    Vertex,
    VertexMeta,
)
from pybuild.model.patterns import PatternMatcher
from pybuild.model.patterns import match as match_pattern

if TYPE_CHECKING:
    from pybuild.model.policy import Policies

_OCTAL = re.compile(r"[0-7]+\Z", re.ASCII)
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[ugo]|[rwxXst]*))+\Z", re.ASCII)
_NUMBER = re.compile(r"[0-9]+\Z", re.ASCII)


def apply_transfer(
    state: StageState, at: ast.Copy | ast.Add, source: Vertex, triggered: bool
) -> None:
    """Add the files of a COPY or ADD to the stage; *source* is where plain paths come from.

    Raises:
        UserError: a flag or source that cannot be.
    """
    expand = state.expander(at)
    keyword = "ADD" if isinstance(at, ast.Add) else "COPY"
    chown, chmod = (expand(at.flag(name) or "") for name in ("chown", "chmod"))
    names = [expand(item) for item in at.sources if isinstance(item, str)]
    heredocs = [item for item in at.sources if isinstance(item, ast.Heredoc)]
    shown_dest = expand(at.dest)
    parents = bool(at.flag_bool("parents"))
    checksum = expand(at.flag("checksum") or "")
    remotes = _remotes(at, keyword, names, checksum, state.scope.options.policies)
    if not at.flag("from"):
        ignored = state.scope.options.local_excludes.get("context", ())
        here = [name for name in names if name not in remotes]
        check_ignored(at, here, ignored, state.scope.report)
    exclude = at.flag_list("exclude")
    _check_patterns(exclude, PatternMatcher)

    link = bool(at.flag_bool("link")) and not chmod  # [CP-31]
    root = SCRATCH if link else state.vertex
    owner = _owner(chown, root)
    mode = _mode(chmod)
    dest = paths.destination(paths.clean(state.cwd), state.path(shown_dest))
    unpack = isinstance(at, ast.Add) and at.flag_bool("unpack") is not False
    title = state.title(at.original)
    prefix = state.names.next(state.platform, state.env, triggered=triggered)
    inputs = [root]
    actions: list[Copy] = []
    if any(name not in remotes for name in names):
        inputs.append(source)
    for name in names:
        if name in remotes:
            # A source is revalidated even with --no-cache, and made again only when it differs.
            meta = state.meta(prefix + title, at, ignorable=False)
            inputs.append(Vertex(remotes[name], meta=meta))
            actions.append(
                Copy(
                    input=len(inputs) - 1,
                    source=_source_of(remotes[name]),
                    dest=dest,
                    unpack=isinstance(remotes[name], HttpSource) and at.flag_bool("unpack") is True,
                    exclude=exclude,
                    mode=mode,
                    owner=owner,
                )
            )
            continue
        name = state.path(name)
        path, pivot = paths.clean(name), None
        if parents:
            kept_from, dot, kept = name.partition("/./")
            path = paths.clean(f"{kept_from}/{kept}")
            pivot = paths.components(kept_from) if dot else 0
        wildcard = paths.has_wildcard(path)
        if wildcard:
            _check_patterns((path,), PatternMatcher if parents else None)
        actions.append(
            Copy(
                input=1,
                source=path,
                dest=dest,
                wildcard=wildcard,
                allow_empty=wildcard,
                unpack=unpack,
                parents_pivot=pivot,
                exclude=exclude,
                mode=mode,
                owner=owner,
            )
        )
    if heredocs:
        # Copied from a tree of their own, since only a copy knows whether the destination is a
        # directory by then [HD-7].
        inputs.append(_inline(state, at, heredocs))
        number = len(inputs) - 1
        actions += [
            Copy(
                input=number,
                source=paths.clean(heredoc.name),
                dest=dest,
                exclude=exclude,
                mode=mode,
                owner=owner,
            )
            for heredoc in heredocs
        ]

    layer = Vertex(FileOp(actions=tuple(actions)), tuple(inputs), state.meta(prefix + title, at))
    if link and not isinstance(state.vertex.op, ScratchSource):
        meta = state.meta(f"{prefix}LINK {title}", at)
        state.vertex = Vertex(MergeOp(), (state.vertex, layer), meta)
    else:
        state.vertex = layer
    words = [keyword]
    words += ["--parents"] if parents else []
    words += [f"--chown={chown}"] if chown else []
    words += [f"--chmod={chmod}"] if chmod else []
    words += [*names, *(f"<<{heredoc.name}" for heredoc in heredocs), shown_dest]
    state.commit(" ".join(words) + " # buildkit", layer)


def apply_workdir(state: StageState, at: ast.Workdir, triggered: bool) -> None:
    """Change the working directory; it is made unless it is the root [WD-1]."""
    path = state.expander(at)(at.path)
    check_workdir(at, path, is_first=not state.has_workdir, report=state.scope.report)
    state.has_workdir = True
    full = paths.workdir(state.cwd, state.path(path))
    state.image.run["WorkingDir"] = paths.to_windows(full) if state.is_windows else full
    if paths.clean(full) == "/":
        state.commit(f"WORKDIR {full}")
        return
    user = state.image.user
    mkdir = Mkdir(
        path=paths.clean(full),
        owner=parse_owner(user) if user else None,
        mtime=state.scope.epoch,
    )
    title = state.title(at.original)
    prefix = state.names.next(state.platform, state.env, triggered=triggered)
    meta = state.meta(prefix + title, at, ignorable=False)
    state.vertex = Vertex(FileOp(actions=(mkdir,)), (state.vertex,), meta)
    state.commit(f"WORKDIR {full}", state.vertex)


def parse_owner(text: str) -> Owner:
    """Read ``user[:group]``; ``root`` is 0 without a look-up, and so is an empty half."""
    user, colon, group = text.partition(":")
    return Owner(user=_id(user), group=_id(group) if colon else None)


def _id(text: str) -> str:
    if text in ("", "root"):
        return "0"
    return str(int(text)) if _NUMBER.match(text) and len(text) < 11 else text


def _owner(chown: str, root: Vertex) -> Owner | None:
    if not chown:
        return None
    owner = parse_owner(chown)
    if isinstance(root.op, ScratchSource):
        for name in (owner.user, owner.group or "0"):
            if not _NUMBER.match(name):
                raise UserError(
                    f'invalid user index: -1: "{name}" cannot be looked up in an empty tree',
                    hints=("use a number",),
                )
    return owner


def _mode(text: str) -> int | str | None:
    """Read ``--chmod`` [CP-22]."""
    if not text:
        return None
    if _OCTAL.match(text) and len(text) < 12 and int(text, 8) <= 0o7777:
        return int(text, 8)
    if all(_SYMBOLIC.match(part) for part in text.split(",")):
        return text
    raise UserError(
        f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
    )


def _remotes(
    at: ast.Copy | ast.Add, keyword: str, names: list[str], checksum: str, policies: Policies | None
) -> dict[str, HttpSource | GitSource]:
    """Return the sources that are no paths, by how they are written [ADD-4..10].

    Raises:
        UserError: one that this instruction may not have, or flags that contradict it.
    """
    remotes: dict[str, HttpSource | GitSource] = {}
    for name in names:
        git = parse_git_url(name)
        if git is None and not is_http(name):
            continue
        if keyword == "COPY":
            raise UserError(f"source can't be a {'URL' if git is None else 'git ref'} for COPY")
        remotes[name] = remote_source(at, name, git, checksum, policies)
    if checksum and keyword == "ADD":
        if len(at.sources) != 1:
            raise UserError("checksum can't be specified for multiple sources")
        if not remotes:
            raise UserError("checksum requires HTTP(S) or Git sources")
    return remotes


def remote_source(
    at: ast.Copy | ast.Add, url: str, git: GitUrl | None, checksum: str, policies: Policies | None
) -> HttpSource | GitSource:
    """Return the source that *url* of an ADD stands for; *git* is what it says of a repository.

    Raises:
        UserError: the checksum is none, it and flags contradict the URL, or a policy refuses it.
    """
    found = _http(url, checksum) if git is None else _git(at, git, checksum)
    if not policies:
        return found
    from pybuild.frontend.lowering.policies import ruled

    return ruled(policies, found)


def _http(url: str, checksum: str) -> HttpSource:
    try:
        digest = Digest.parse(checksum) if checksum else None
    except ValueError as error:
        raise UserError(f'invalid checksum "{checksum}": {error}') from error
    return HttpSource(url=url, checksum=digest, filename=file_name(url))


def _git(at: ast.Copy | ast.Add, url: GitUrl, checksum: str) -> GitSource:
    keep = at.flag_bool("keep-git-dir")
    if keep is not None and url.keep_git_dir is not None and keep != url.keep_git_dir:
        raise UserError("inconsistent keep-git-dir configuration")
    if checksum and url.checksum and checksum != url.checksum:
        raise UserError(f'checksum mismatch "{checksum}" != "{url.checksum}"')
    url.checksum = url.checksum or checksum
    return url.source(keep_git_dir=bool(keep))


def _source_of(op: HttpSource | GitSource) -> str:
    return "/" + op.filename if isinstance(op, HttpSource) else "/"


def _check_patterns(patterns: tuple[str, ...], kind: type[PatternMatcher] | None) -> None:
    """Refuse what is no pattern; without *kind* ``**`` is nothing special [CP-3, CP-33]."""
    for pattern in patterns:
        try:
            if kind is None:
                match_pattern(pattern, "")
            else:
                kind((pattern,))
        except ValueError as error:
            raise UserError(f'"{pattern}": {error}') from error


def _inline(state: StageState, at: ast.Instruction, heredocs: list[ast.Heredoc]) -> Vertex:
    files: list[Mkfile] = []
    for heredoc in heredocs:
        path = paths.clean(heredoc.name)
        if path == "/":
            raise UserError(f'"{heredoc.name}" cannot be the name of a file')
        files.append(Mkfile(path=path, data=state.document(heredoc, at)))
    meta = VertexMeta(name="[internal] preparing inline document", spans=(at.span,))
    return Vertex(FileOp(actions=tuple(files)), (SCRATCH,), meta)
