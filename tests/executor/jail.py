"""Runs a program as a container engine runs its root by default: ``python jail.py PROGRAM ARG…``.

The default capabilities, which lack CAP_SYS_ADMIN, and the default system call filter, which
refuses mounts and namespaces. Both are those that steps get in our own sandbox.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    from pybuild.executor.zygote import isolation, privileges

    isolation._rung = isolation.ROOT  # pyright: ignore[reportPrivateUsage]
    privileges.confine(0, 0, [], insecure=False)
    os.execvp(sys.argv[1], sys.argv[1:])
