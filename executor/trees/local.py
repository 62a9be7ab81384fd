"""Content digests of directories of the client, read in place [CTX-2, KEY-2]."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

from pybuild.executor.files.tree import Hidden, Tree
from pybuild.executor.trees.filereading import UNREADABLE_HINT
from pybuild.executor.trees.seen import Seen
from pybuild.executor.trees.statindex import StatIndex
from pybuild.executor.trees.treefacts import TreeFacts
from pybuild.executor.trees.treefiles import KnownFiles
from pybuild.executor.trees.treehash import NotFound, add_facts, tree_digest
from pybuild.executor.zygote.faults import ENVIRONMENT, MOVED, Fault
from pybuild.model.contents import ContentDigest, MissingSource
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, SourceMoved, UserError
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree

_KINDS: dict[str, type[PybuildError]] = {ENVIRONMENT: EnvironmentFault, MOVED: SourceMoved}
_CONTEXT = "the context"


class LocalDigester:
    """Digests selections of local trees; blocking, meant for a thread; thread-safe.

    Args:
        folder: where stat indexes are kept; made when needed.
    """

    def __init__(self, folder: str, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._folder = folder
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._indexes: dict[str, tuple[threading.Lock, StatIndex, KnownFiles]] = {}

    def digest(
        self,
        tree: LocalTree,
        selection: Selection,
        facts: TreeFacts | None = None,
        seen: Seen | None = None,
    ) -> ContentDigest:
        """Digest what *selection* picks from *tree*; *facts* and *seen* as for `tree_digest`.

        Raises:
            UserError: a path is not there [CP-4]. EnvironmentFault: the directory cannot be read.
            SourceMoved: what is on the way to a path changes all the time.
        """
        with _worded(tree), self._opened(tree) as (opened, index, known):
            seen = Seen() if seen is None else seen
            seen.began_ns = index.reading_ns
            digest, entries = tree_digest(opened, selection, index, facts, known, seen)
        return ContentDigest(Digest(digest), tuple(entries))

    def facts(
        self,
        tree: LocalTree,
        selection: Selection,
        only: Mapping[str, Sequence[str]],
        since_ns: int,
    ) -> TreeFacts:
        """Look again at some of what *selection* picks, as `treehash.add_facts` has them.

        Raises: as `digest` does. SourceMoved: it has changed since *since_ns*.
        """
        facts = TreeFacts()
        with _worded(tree), self._opened(tree) as (opened, index, _):
            add_facts(facts, opened, selection, index, only, since_ns)
        return facts

    @contextmanager
    def _opened(self, tree: LocalTree) -> Generator[tuple[Tree, StatIndex, KnownFiles]]:
        try:
            opened = Tree.open(tree.path, tree.exclude, is_local=True, git_modes=tree.git_modes)
        except ValueError as error:
            raise UserError(str(error)) from error
        with opened:
            lock, index, known = self._index(tree.path)
            with lock:
                index.begin()
                known.begin(index.reading_ns)
                yield opened, index, known

    def _index(self, path: str) -> tuple[threading.Lock, StatIndex, KnownFiles]:
        with self._lock:
            if path not in self._indexes:
                file = index_file(self._folder, path)
                index = StatIndex(file, self._now_ns)
                self._indexes[path] = (threading.Lock(), index, KnownFiles(files_file(file)))
            return self._indexes[path]

    def save(self) -> None:
        """Keep what was learnt for the next build."""
        with self._lock:
            indexes = list(self._indexes.values())
        for lock, index, known in indexes:
            with lock:
                index.save()
                known.save()


@contextmanager
def _worded(tree: LocalTree) -> Generator[None]:
    """Word what goes wrong while *tree* is read."""
    try:
        yield
    except NotFound as missing:
        raise not_found(tree, missing) from missing
    except Fault as fault:
        kind = _KINDS.get(fault.kind, UserError)
        raise kind(fault.message, hints=fault.hints) from fault
    except OSError as error:
        name = f": {os.fsdecode(error.filename)}" if error.filename else ""
        reason = (error.strerror or str(error)).lower()
        message = f"cannot read context {tree.path}{name}: {reason}"
        if isinstance(error, PermissionError):
            raise UserError(message, hints=(UNREADABLE_HINT,)) from error
        raise EnvironmentFault(message) from error


def index_file(folder: str, path: str) -> str:
    """Return where the index of the tree at *path* is kept in *folder*; who removes a tree for
    good removes it, too."""
    return os.path.join(folder, hashlib.sha256(os.fsencode(path)).hexdigest()[:32])


def files_file(index: str) -> str:
    """Return where what is known of whole directories is kept, beside a tree's index."""
    return index + ".files"


def not_found(tree: LocalTree, missing: NotFound) -> MissingSource:
    """Word the error for a source that is not in a local tree, with the pattern that hides it."""
    path = missing.path.strip("/")
    if not tree.held:
        hidden = "" if missing.hidden is None else _why_hidden(tree, missing.hidden)
        hints = (_unhide(path),) if missing.hidden else _near(tree, path)
        ref = tree.path
    else:
        # Where we keep a copy of what a client sent is nobody's business, and means nothing to him.
        pattern = hidden_by(tree, path)
        hidden = "" if pattern is None else f'the ignore file\'s "{pattern}"'
        hints = () if pattern is None else (_unhide(path),)
        ref = hashlib.sha256(os.fsencode(tree.path)).hexdigest()[:25]
    return MissingSource(
        ref,
        missing.path,
        hints,
        in_context=True,
        hidden=hidden,
        above_pattern=missing.above_pattern,
    )


def _unhide(path: str) -> str:
    return f'take that line out, or add "!{path}" below it'


def _near(tree: LocalTree, path: str) -> tuple[str, ...]:
    from pybuild.executor.trees.nearby import hints_near

    try:
        with Tree.open(tree.path, tree.exclude, is_local=True) as opened:
            return hints_near(opened, path, _CONTEXT)
    except (OSError, ValueError):
        return ()


def _why_hidden(tree: LocalTree, path: str) -> str:
    """Return the line of an ignore file that hides *path*."""
    # A worker's function, whose import would cost each build as much as its own front end.
    from pybuild.executor.files.jobs import read_file

    pattern = _last_match(tree, path)
    try:
        with Tree.open(tree.path) as opened:
            line = line_of(read_file(opened, ".dockerignore", 1 << 20) or b"", pattern)
    except (OSError, Fault):
        line = None
    if line is None:
        return f'the ignore file\'s "{pattern}"'
    return f'.dockerignore line {line} ("{pattern}")'


def hidden_by(tree: LocalTree, path: str) -> str | None:
    """Return the pattern that hides *path*, where something is there and hidden."""
    if not tree.exclude:
        return None
    if tree.held:  # what is hidden of a copy that a client sent is not there
        return (_last_match(tree, path) or None) if _hides(tree, path) else None
    try:
        with Tree.open(tree.path, tree.exclude, is_local=True) as opened:
            opened.locate(path, follow=False).close()
    except Hidden:
        return _last_match(tree, path)
    except (Fault, OSError, ValueError):
        pass
    return None


def _hides(tree: LocalTree, path: str) -> bool:
    from pybuild.model.patterns import PatternMatcher

    return PatternMatcher(tree.exclude).matches(path)


def _last_match(tree: LocalTree, path: str) -> str:
    from pybuild.model.patterns import PatternMatcher

    pattern = ""
    for candidate in tree.exclude:
        if not candidate.startswith("!") and PatternMatcher((candidate,)).matches(path):
            pattern = candidate
    return pattern


def line_of(data: bytes, pattern: str) -> int | None:
    """Return the last line of an ignore file that says *pattern*, as cleaned [IGN-3]."""
    from pybuild.model.patterns import clean

    lines = data.decode("utf-8-sig", "surrogateescape").splitlines()
    for number in range(len(lines), 0, -1):
        text = lines[number - 1].strip()
        if text and clean(text).removeprefix("/") == pattern:
            return number
    return None
