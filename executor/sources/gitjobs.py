"""Worker functions for git repositories: what a ref means, and its tree as files [ADD-7..9, KEY-5].

The repository is hostile, and so is its server. Each remote has one bare repository in the store,
into which commits are fetched and whose settings nobody but us writes. A checkout happens with a
repository of its own beside it, which borrows the objects, so nothing that a tree brings (submodule
settings above all) outlives it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat

from pybuild.executor.sources.gitvalues import GitCommit
from pybuild.executor.sources.program import LOCAL, NETWORK, Git, ProgramFailed
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.sources.gitvalues import Checkout, GitRemote
    from pybuild.model.border import WorkerCall

_COMMIT = re.compile(r"[0-9a-f]{40}\Z|[0-9a-f]{64}\Z")
_BRANCH = re.compile(r"ref: (refs/heads/\S+)\tHEAD")
_LIST_S = 120
_FETCH_S = 1800
_CHECKOUT_S = 600


def resolve(call: WorkerCall, remote: GitRemote, ref: str) -> GitCommit:
    """Ask the remote what *ref* is now; "" is its default branch.

    Raises:
        Fault: user; no such ref. Environment; the remote cannot be reached.
    """
    git = _git(call, remote)
    names = [ref, ref + "^{}"] if ref else ["HEAD"]
    symbolic = [] if ref else ["--symref"]
    try:
        text = git.run(
            *("ls-remote", *symbolic, "--", remote.bundle or remote.url, *names),
            protocols=_protocols(remote),
            seconds=_LIST_S,
        )
    except ProgramFailed as error:
        raise _unreachable(remote, error) from error
    ids: dict[str, str] = {}
    for line in text.splitlines():
        value, tab, name = line.partition("\t")
        if tab and _COMMIT.match(value):
            ids.setdefault(name, value)
    if not ref:
        branch = _BRANCH.search(text)
        if "HEAD" not in ids:
            raise Fault(USER, f"could not find default branch for repository: {remote.shown}")
        return GitCommit(ids["HEAD"], ids["HEAD"], branch[1] if branch else "")
    # A branch is preferred to a tag of the same name [ADD-8].
    tag = "refs/tags/" + ref.removeprefix("refs/tags/")
    for name in (
        "refs/" + ref.removeprefix("refs/"),
        "refs/heads/" + ref.removeprefix("refs/heads/"),
    ):
        if name in ids and name != tag:
            return GitCommit(ids[name], ids[name], name)
    if tag in ids:
        return GitCommit(ids[tag], ids.get(tag + "^{}", ids[tag]), tag)
    raise Fault(USER, f"repository does not contain ref {ref}: {remote.shown}")


def checkout(call: WorkerCall, remote: GitRemote, commit: GitCommit, wish: Checkout) -> int:
    """Put the tree of *commit* into a directory; return the commit's time in seconds.

    Raises:
        Fault: user; no such subdirectory, or the checksum is another. Environment.
    """
    git = _git(call, remote)
    os.umask(0o022)
    mirror = remote.mirror
    _prepare_mirror(git, mirror, sha256=len(commit.object) == 64)
    _bring(git, remote, commit)
    if wish.checksum:
        _check(git, mirror, commit.object, wish.checksum)
    if wish.bundle:
        return _make_bundle(git, remote, commit.commit, wish)
    tree, scratch = wish.target, wish.scratch
    if wish.subdir:
        tree = os.path.join(scratch, "tree")
        os.mkdir(tree, 0o755)
    keeps = wish.keep_git_dir and not wish.subdir
    own = os.path.join(tree, ".git") if keeps else os.path.join(scratch, "git")
    try:
        _begin(git, remote, commit, own, tree, keeps)
        git.run(
            *(f"--work-tree={tree}", "read-tree", "--reset", "-u", commit.commit),
            git_dir=own,
            cwd=tree,
            seconds=_CHECKOUT_S,
        )
        if wish.submodules and os.path.lexists(os.path.join(tree, ".gitmodules")):
            _submodules(git, remote, own, tree)
        if keeps:
            git.run("config", "remote.origin.url", remote.url, git_dir=own)
            _finish_git_dir(own)
        seconds = git.run("log", "-1", "--format=%ct", commit.commit, git_dir=mirror).strip()
    except ProgramFailed as error:
        raise Fault(
            ENVIRONMENT, f"failed to checkout remote {remote.shown}: {error.stderr}"
        ) from error
    if not keeps:
        _drop_links(tree)
    if wish.subdir:
        _move_subdir(tree, wish.subdir, wish.target)
    when = int(seconds) if seconds.isdigit() else 0
    if wish.mtime == "commit":
        _set_times(wish.target, when)
    os.chmod(wish.target, 0o755)
    return when


def _make_bundle(git: Git, remote: GitRemote, commit: str, wish: Checkout) -> int:
    """Put *commit* with its history into one file, and return its time."""
    mirror, own = remote.mirror, os.path.join(wish.scratch, "git")
    if os.path.exists(os.path.join(mirror, "shallow")):
        _fetch_all(git, remote)
    words = ["--object-format=sha256"] if len(commit) == 64 else []
    try:
        git.run("init", "--quiet", "--bare", *words, "--", own)
        with open(os.path.join(own, "objects/info/alternates"), "w", encoding="utf-8") as file:
            file.write(os.path.join(mirror, "objects") + "\n")
        git.run("update-ref", "--no-deref", wish.bundle, commit, git_dir=own)
        git.run(
            *("-c", "pack.threads=1", "bundle", "create", "--quiet"),
            *(os.path.join(wish.target, "bundle"), wish.bundle),
            git_dir=own,
            seconds=_CHECKOUT_S,
        )
        seconds = git.run("log", "-1", "--format=%ct", commit, git_dir=mirror).strip()
    except ProgramFailed as error:
        raise Fault(
            ENVIRONMENT, f"failed to create git bundle for {commit}: {error.stderr}"
        ) from error
    os.chmod(wish.target, 0o755)
    return int(seconds) if seconds.isdigit() else 0


def objects(call: WorkerCall, remote: GitRemote, commit: GitCommit) -> tuple[bytes, bytes]:
    """Return the bytes of the commit and of the annotated tag that is its object; fetch them if need be.

    Those of the tag are empty where the object is the commit itself.

    Raises:
        Fault: environment; they cannot be had.
    """
    git = _git(call, remote)
    mirror = remote.mirror
    _prepare_mirror(git, mirror, sha256=len(commit.object) == 64)
    _bring(git, remote, commit)
    try:
        text = git.run("cat-file", "commit", commit.commit, git_dir=mirror)
        tag = ""
        if commit.object != commit.commit:
            tag = git.run("cat-file", "tag", commit.object, git_dir=mirror)
    except ProgramFailed as error:
        raise Fault(
            ENVIRONMENT,
            f"failed to read commit {commit.commit} of {remote.shown}: {error.stderr}",
        ) from error
    return os.fsencode(text), os.fsencode(tag)


# --- the remote -----------------------------------------------------------------------------------


def _git(call: WorkerCall, remote: GitRemote) -> Git:
    """Return git for *remote*.

    The descriptor handed over, if any, is the directory of the agent's socket ``agent``. Its path goes
    through this process, since sockets have short names and ssh closes what it inherits.
    """
    return Git(remote, f"/proc/{os.getpid()}/fd/{call.fds[0]}/agent" if call.fds else "")


def _protocols(remote: GitRemote) -> str:
    """Return the protocols for a remote: one with https is never followed to plain http."""
    if remote.bundle:
        return LOCAL
    is_secure = remote.url.lower().startswith("https:")
    return NETWORK.replace("http:", "", 1) if is_secure else NETWORK


def _unreachable(remote: GitRemote, error: ProgramFailed) -> Fault:
    hints: tuple[str, ...] = ()
    text = error.stderr
    if "could not read Username" in text or "Authentication failed" in text or " 403" in text:
        hints = ("pass a token with --secret id=GIT_AUTH_TOKEN,…",)
    elif "redirect" in text or " 301" in text or " 302" in text:
        hints = ("credentials are not sent after redirects: name the repository's final URL",)
    elif 'Protocol "http"' in text and remote.url.lower().startswith("https:"):
        hints = ("it redirects to plain http: name the repository's final URL",)
    elif "Permission denied (publickey" in text:
        hints = ("load the key into the agent that --ssh forwards",)
    elif "Could not resolve host" in text or "Failed to connect" in text:
        hints = ("see whether its host is spelt so, and whether this machine has a network",)
    elif "not found" in text or "does not exist" in text:
        hints = ("see whether it is spelt so; a private one needs --secret id=GIT_AUTH_TOKEN,…",)
    return Fault(ENVIRONMENT, f"failed to fetch remote {remote.shown}: {text}", hints)


def _prepare_mirror(git: Git, mirror: str, *, sha256: bool) -> None:
    if os.path.exists(os.path.join(mirror, "HEAD")):
        for name in ("shallow.lock", "config.lock", "packed-refs.lock"):
            path = os.path.join(mirror, name)  # of a process that was killed
            if os.path.lexists(path):
                os.unlink(path)
        return
    shutil.rmtree(mirror, ignore_errors=True)
    words = ["--object-format=sha256"] if sha256 else []
    new = mirror + ".new"
    shutil.rmtree(new, ignore_errors=True)
    try:
        git.run("init", "--quiet", "--bare", *words, "--", new)
    except ProgramFailed as error:
        raise Fault(ENVIRONMENT, f"cannot make a repository: {error.stderr}") from error
    os.rename(new, mirror)


def _has(git: Git, mirror: str, name: str) -> bool:
    try:
        git.run("cat-file", "-e", name + "^{tree}", git_dir=mirror)
    except ProgramFailed:
        return False
    return True


def _bring(git: Git, remote: GitRemote, commit: GitCommit) -> None:
    """Fetch the commit as cheaply as the server allows."""
    mirror, name, ref = remote.mirror, commit.object, commit.ref
    if _has(git, mirror, name):
        return
    if remote.bundle:
        try:
            _fetch(git, remote, "+refs/*:refs/pybuild/*", depth="")
        except ProgramFailed as error:
            raise Fault(USER, f"failed to import git bundle: {error.stderr}") from error
        if not _has(git, mirror, name):
            raise Fault(USER, f"commit {name} not found in bundle")
        return
    # Refs keep what was fetched from being fetched again.
    kept = "refs/pybuild/" + hashlib.sha256((ref or name).encode()).hexdigest()[:32]
    attempts = [f"+{ref}:{kept}"] if ref else []
    attempts.append(f"+{name}:{kept}")
    failure: ProgramFailed | None = None
    for refspec in attempts:
        try:
            _fetch(git, remote, refspec)
        except ProgramFailed as error:
            failure = error
            if not _is_refusal(error):
                raise _unreachable(remote, error) from error
        if _has(git, mirror, name):
            return
    _fetch_all(git, remote)
    if not _has(git, mirror, name):
        if not ref and failure is not None and not _is_refusal(failure):
            raise _unreachable(remote, failure)
        raise Fault(
            USER if not ref else ENVIRONMENT,
            f"repository does not contain commit {name}: {remote.shown}"
            if not ref
            else f"fetched ref {ref} does not match expected commit {name} and commit can not be "
            "found in the repository",
        )


def _is_refusal(error: ProgramFailed) -> bool:
    """Whether the server only will not give single commits, or the ref went away meanwhile."""
    words = ("not our ref", "unadvertised object", "couldn't find remote ref", "does not support")
    return any(word in error.stderr for word in words)


def _fetch(git: Git, remote: GitRemote, *refspecs: str, depth: str = "--depth=1") -> None:
    words = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--force"]
    words += [depth] if depth else []
    words += ["--", remote.bundle or remote.url, *refspecs]
    try:
        git.run(*words, git_dir=remote.mirror, protocols=_protocols(remote), seconds=_FETCH_S)
    except ProgramFailed as error:
        if not depth.startswith("--depth") or not (
            "shallow" in error.stderr or "--depth" in error.stderr
        ):
            raise
        _fetch(git, remote, *refspecs, depth="")


def _fetch_all(git: Git, remote: GitRemote) -> None:
    is_shallow = os.path.exists(os.path.join(remote.mirror, "shallow"))
    try:
        _fetch(
            git,
            remote,
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
            depth="--unshallow" if is_shallow else "",
        )
    except ProgramFailed as error:
        raise _unreachable(remote, error) from error


def _check(git: Git, mirror: str, name: str, checksum: str) -> None:
    commit = git.run("rev-parse", "--verify", name + "^{commit}", git_dir=mirror).strip()
    names = list(dict.fromkeys((name, commit)))
    if not any(name.startswith(checksum) for name in names):
        raise Fault(USER, f"expected checksum to match {checksum}, got {' or '.join(names)}")


# --- the tree -------------------------------------------------------------------------------------


def _begin(
    git: Git, remote: GitRemote, commit: GitCommit, own: str, tree: str, keeps: bool
) -> None:
    """Make the repository of this checkout: one with its own objects if it is to be kept."""
    name, mirror = commit.object, remote.mirror
    words = ["--object-format=sha256"] if len(name) == 64 else []
    if not keeps:
        git.run("init", "--quiet", "--bare", *words, "--", own)
        with open(os.path.join(own, "objects/info/alternates"), "w", encoding="utf-8") as file:
            file.write(os.path.join(mirror, "objects") + "\n")
        git.run("config", "core.bare", "false", git_dir=own)
        git.run("config", "core.worktree", tree, git_dir=own)
        git.run("config", "remote.origin.url", remote.url, git_dir=own)
        git.run("update-ref", "--no-deref", "HEAD", commit.commit, git_dir=own)
        return
    git.run("init", "--quiet", *words, "--", tree)
    git.run("remote", "add", "origin", remote.url, git_dir=own)
    # The name under which the object is fetched must exist, and stay what it is.
    moved = "refs/pybuild/checkout"
    git.run("update-ref", moved, name, git_dir=mirror)
    ref = commit.ref if commit.ref.startswith(("refs/heads/", "refs/tags/")) else ""
    git.run(
        *("fetch", "--quiet", "--update-head-ok", "--depth=1", "--no-tags", "--"),
        "file://" + mirror,
        f"+{moved}:{ref or 'refs/pybuild/checkout'}",
        git_dir=own,
        protocols=LOCAL,
        seconds=_CHECKOUT_S,
    )
    git.run("update-ref", "--no-deref", "HEAD", commit.commit, git_dir=own)


def _finish_git_dir(own: str) -> None:
    """Take out of a kept repository what only tells how it was made."""
    for name in ("FETCH_HEAD", "ORIG_HEAD", "config.lock"):
        path = os.path.join(own, name)
        if os.path.lexists(path):
            os.unlink(path)
    shutil.rmtree(os.path.join(own, "logs"), ignore_errors=True)


def _submodules(git: Git, remote: GitRemote, own: str, tree: str) -> None:
    try:
        try:
            _update_submodules(git, own, tree, "--depth=1")
        except ProgramFailed as error:
            if "shallow" not in error.stderr and "--depth" not in error.stderr:
                raise
            _update_submodules(git, own, tree)  # a server of plain files gives all or nothing
    except ProgramFailed as error:
        fault = _unreachable(remote, error)
        raise Fault(
            ENVIRONMENT,
            f"failed to update submodules for {remote.shown}: {error.stderr}",
            fault.hints,
        ) from error


def _update_submodules(git: Git, own: str, tree: str, *depth: str) -> None:
    git.run(
        *(f"--work-tree={tree}", "submodule", "--quiet", "update", "--init", "--recursive"),
        *depth,
        git_dir=own,
        cwd=tree,
        protocols=NETWORK,  # a file or an ext:: helper is no place for a submodule
        seconds=_FETCH_S,
        env={"GIT_PROTOCOL_FROM_USER": "0"},
    )


def _drop_links(tree: str) -> None:
    """Remove the files by which submodules point to their repositories; git tracks no such name."""
    for path, directories, files in os.walk(tree):
        if ".git" in files:
            os.unlink(os.path.join(path, ".git"))
        if ".git" in directories:
            directories.remove(".git")
            shutil.rmtree(os.path.join(path, ".git"))


def _move_subdir(tree: str, subdir: str, target: str) -> None:
    """Move what is in a directory of the checkout; no component may be a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(tree, flags)
    try:
        for part in subdir.split("/"):
            try:
                below = os.open(part, flags, dir_fd=fd)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise Fault(USER, f"invalid subdir {subdir}: {part}: {reason}") from error
            os.close(fd)
            fd = below
        status = os.fstat(fd)
        for name in os.listdir(fd):
            os.rename(name, os.path.join(target, name), src_dir_fd=fd)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    finally:
        os.close(fd)


def _set_times(tree: str, seconds: int) -> None:
    for path, directories, files in os.walk(tree, topdown=False):
        for name in files + directories:
            full = os.path.join(path, name)
            if name in files or stat.S_ISLNK(os.lstat(full).st_mode):
                os.utime(full, (seconds, seconds), follow_symlinks=False)
        os.utime(path, (seconds, seconds))
