"""In which form a store's deltas are: with overlayfs' ``trusted.`` attributes, or with ``user.`` ones.

Only CAP_SYS_ADMIN reads the first. Whoever lacks it would take a tree for whole that has files in it
which were deleted, so one store has one form. It is a link that points to the word: made at once.
"""

from __future__ import annotations

import os

NAME = "overlay-attributes"
HINTS = ("use another store with --root", "or empty it: pybuild prune --all")
_USER, _TRUSTED = "user", "trusted"


def settle(root: str, *, userxattr: bool) -> None:
    """Take the store *root* for this form, or find it to be of this form.

    Raises:
        EnvironmentFault: it holds deltas of the other form.
    """
    path = os.path.join(root, NAME)
    for _ in range(3):
        try:
            os.symlink(_USER if userxattr else _TRUSTED, path)
            return
        except FileExistsError:
            pass
        problem = difference(root, userxattr=userxattr)
        if not problem:
            return
        if os.listdir(os.path.join(root, "snapshots")):
            from pybuild.model.errors import EnvironmentFault

            raise EnvironmentFault(problem, hints=HINTS)
        os.unlink(path)


def difference(root: str, *, userxattr: bool) -> str:
    """Return the words about a store *root* of the other form, "": it is of this one."""
    ours = _USER if userxattr else _TRUSTED
    try:
        theirs = os.readlink(os.path.join(root, NAME))
    except OSError:
        theirs = ""
    if theirs == ours:
        return ""
    return (
        f"the store {root} was written with other privileges: "
        f"its snapshots have {theirs or 'no'} attributes of overlay, not {ours}"
    )


def is_ours(root: str) -> bool:
    """Return whether the store *root* is known to be of the form that we write, without asking a worker.

    Whoever may do all as root writes the one, whoever is not root the other; of all in between a worker knows.
    """
    from pybuild.executor.zygote import procstatus

    try:
        form = os.readlink(os.path.join(root, NAME))
        if os.geteuid():
            return form == _USER
        return form == _TRUSTED and procstatus.may_administer() and procstatus.is_initial()
    except OSError:
        return False
