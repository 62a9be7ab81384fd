"""In which form a store's deltas are: with overlayfs' ``trusted.`` attributes, or with ``user.`` ones.

Only CAP_SYS_ADMIN reads the first. Whoever lacks it would take a tree for whole that has files in it
which were deleted, so one store has one form. It is a link that points to the word: made at once.
"""

from __future__ import annotations

import os

from pybuild.model.errors import EnvironmentFault

NAME = "overlay-attributes"


def settle(root: str, *, userxattr: bool) -> None:
    """Take the store *root* for this form, or find it to be of this form.

    Raises:
        EnvironmentFault: it holds deltas of the other form.
    """
    path = os.path.join(root, NAME)
    ours = "user" if userxattr else "trusted"
    for _ in range(3):
        try:
            os.symlink(ours, path)
            return
        except FileExistsError:
            pass
        try:
            theirs = os.readlink(path)
        except OSError:
            theirs = ""
        if theirs == ours:
            return
        if os.listdir(os.path.join(root, "snapshots")):
            raise EnvironmentFault(
                f"the store {root} was written with other privileges: "
                f"its snapshots have {theirs or 'no'} attributes of overlay, not {ours}",
                hints=("use another store with --root", "or empty it: pybuild prune --all"),
            )
        os.unlink(path)
