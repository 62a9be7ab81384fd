"""COPY, ADD and WORKDIR as file actions [CP, ADD, WD-1]."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.frontend.giturl import GitUrl, file_name, is_http, parse_git_url
from pybuild.frontend.lint.steps import check_ignored, check_workdir
from pybuild.frontend.lowering import paths
from pybuild.frontend.lowering.stagestate import SCRATCH, StageState
from pybuild.frontend.syntax import ast
from pybuild.model.dataclass import dataclass
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
    from collections.abc import Mapping, Sequence

    from pybuild.model.policy import Policies

_OCTAL = re.compile(r"[0-7]+\Z", re.ASCII)
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[ugo]|[rwxXst]*))+\Z", re.ASCII)
_NUMBER = re.compile(r"[0-9]+\Z", re.ASCII)


@dataclass(frozen=True)
class _Transfer:
    """A COPY or ADD as it was written, its variables expanded.

    Attributes:
        names: the sources but for heredocs; *remotes* has those that are no paths.
        written_dest, chown, chmod: the words, for the history.
        link: the files are a layer of their own, which depends on nothing below [CP-31].
        unpack: archives among the paths are unpacked.
    """

    keyword: str
    names: tuple[str, ...]
    remotes: Mapping[str, HttpSource | GitSource]
    heredocs: tuple[ast.Heredoc, ...]
    written_dest: str
    chown: str
    chmod: str
    parents: bool
    link: bool
    unpack: bool

    @property
    def words(self) -> str:
        """The words that the image's history has of it."""
        words = [self.keyword]
        words += ["--parents"] if self.parents else []
        words += [f"--chown={self.chown}"] if self.chown else []
        words += [f"--chmod={self.chmod}"] if self.chmod else []
        words += [*self.names, *(f"<<{heredoc.name}" for heredoc in self.heredocs)]
        return " ".join((*words, self.written_dest, "# buildkit"))


def apply_transfer(
    state: StageState, at: ast.Copy | ast.Add, source: Vertex, triggered: bool
) -> None:
    """Add the files of a COPY or ADD to the stage; *source* is where plain paths come from.

    Raises:
        UserError: a flag or source that cannot be.
    """
    transfer = _read(state, at)
    exclude = at.flag_list("exclude")
    _check_patterns(exclude, PatternMatcher)
    root = SCRATCH if transfer.link else state.vertex
    like = Copy(
        input=0,
        source="",
        dest=paths.destination(paths.clean(state.cwd), state.path(transfer.written_dest)),
        exclude=exclude,
        mode=_mode(transfer.chmod),
        owner=_owner(transfer.chown, root),
    )
    title = state.title(at.original)
    prefix = state.names.next(state.platform, state.env, triggered=triggered)
    inputs = [root]
    actions: list[Copy] = []
    if any(name not in transfer.remotes for name in transfer.names):
        inputs.append(source)
    for name in transfer.names:
        if (remote := transfer.remotes.get(name)) is None:
            actions.append(_of_path(state.path(name), transfer, like))
            continue
        # A source is revalidated even with --no-cache, and made again only when it differs.
        inputs.append(Vertex(remote, meta=state.meta(prefix + title, at, ignorable=False)))
        actions.append(
            replace(
                like,
                input=len(inputs) - 1,
                source="/" + remote.filename if isinstance(remote, HttpSource) else "/",
                unpack=isinstance(remote, HttpSource) and at.flag_bool("unpack") is True,
            )
        )
    if transfer.heredocs:
        # Copied from a tree of their own, since only a copy knows whether the destination is a
        # directory by then [HD-7].
        inputs.append(_inline(state, at, transfer.heredocs))
        actions += [
            replace(like, input=len(inputs) - 1, source=paths.clean(heredoc.name))
            for heredoc in transfer.heredocs
        ]

    layer = Vertex(FileOp(actions=tuple(actions)), tuple(inputs), state.meta(prefix + title, at))
    if transfer.link and not isinstance(state.vertex.op, ScratchSource):
        meta = state.meta(f"{prefix}LINK {title}", at)
        state.vertex = Vertex(MergeOp(), (state.vertex, layer), meta)
    else:
        state.vertex = layer
    state.commit(transfer.words, layer)


def _read(state: StageState, at: ast.Copy | ast.Add) -> _Transfer:
    """Read the instruction, and report sources that the ignore file leaves out.

    Raises:
        UserError: a source that this instruction may not have, or flags that contradict it.
    """
    expand = state.expander(at)
    keyword = "ADD" if isinstance(at, ast.Add) else "COPY"
    chown, chmod = (expand(at.flag(name) or "") for name in ("chown", "chmod"))
    names = tuple(expand(item) for item in at.sources if isinstance(item, str))
    written_dest = expand(at.dest)
    parents = bool(at.flag_bool("parents"))
    checksum = expand(at.flag("checksum") or "")
    remotes = _remotes(at, keyword, names, checksum, state.scope.options.policies)
    if not at.flag("from"):
        ignored = state.scope.options.local_excludes.get("context", ())
        here = [name for name in names if name not in remotes]
        check_ignored(at, here, ignored, state.scope.report)
    return _Transfer(
        keyword=keyword,
        names=names,
        remotes=remotes,
        heredocs=tuple(item for item in at.sources if isinstance(item, ast.Heredoc)),
        written_dest=written_dest,
        chown=chown,
        chmod=chmod,
        parents=parents,
        link=bool(at.flag_bool("link")) and not chmod,
        unpack=isinstance(at, ast.Add) and at.flag_bool("unpack") is not False,
    )


def _of_path(name: str, transfer: _Transfer, like: Copy) -> Copy:
    """Return the copy of the path *name* of the second input, which may be a pattern."""
    path, pivot = paths.clean(name), None
    if transfer.parents:
        kept_from, dot, kept = name.partition("/./")
        path = paths.clean(f"{kept_from}/{kept}")
        pivot = paths.components(kept_from) if dot else 0
    wildcard = paths.has_wildcard(path)
    if wildcard:
        _check_patterns((path,), PatternMatcher if transfer.parents else None)
    return replace(
        like,
        input=1,
        source=path,
        wildcard=wildcard,
        allow_empty=wildcard,
        unpack=transfer.unpack,
        parents_pivot=pivot,
    )


def apply_workdir(state: StageState, at: ast.Workdir, triggered: bool) -> None:
    """Change the working directory; it is made unless it is the root [WD-1]."""
    path = state.expander(at)(at.path)
    check_workdir(at, path, is_first=not state.has_workdir, report=state.scope.report)
    state.has_workdir = True
    full = paths.workdir(state.cwd, state.path(path))
    state.image.run["WorkingDir"] = paths.to_windows(full) if state.is_windows else full
    if full == "/":
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
        f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
        hints=("write --chmod=755, or --chmod=u+x",),
    )


def _remotes(
    at: ast.Copy | ast.Add,
    keyword: str,
    names: Sequence[str],
    checksum: str,
    policies: Policies | None,
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
            kind = "URL" if git is None else "git ref"
            hint = f"ADD fetches it: ADD {name} {at.dest}"
            raise UserError(f"source can't be a {kind} for COPY", hints=(hint,))
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
    source = _http(url, checksum) if git is None else _git(at, git, checksum)
    if not policies:
        return source
    from pybuild.frontend.lowering.policies import ruled

    return ruled(policies, source)


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


def _inline(state: StageState, at: ast.Instruction, heredocs: Sequence[ast.Heredoc]) -> Vertex:
    files: list[Mkfile] = []
    for heredoc in heredocs:
        path = paths.clean(heredoc.name)
        if path == "/":
            raise UserError(f'"{heredoc.name}" cannot be the name of a file')
        files.append(Mkfile(path=path, data=state.document(heredoc, at)))
    meta = VertexMeta(name="[internal] preparing inline document", spans=(at.span,))
    return Vertex(FileOp(actions=tuple(files)), (SCRATCH,), meta)
