"""Attempts to hear what others say, and to reach what a step has no network for."""

from __future__ import annotations

from pybuild.executor.zygote import landlock
from tests.security.escapes.attempt import Escape

_ABSTRACT = r"""
import socket
s = socket.socket(socket.AF_UNIX)
s.bind("\0own"); s.listen(); socket.socket(socket.AF_UNIX).connect("\0own")
s = socket.socket(socket.AF_UNIX)
try: s.connect("\0" + "@SOCKET@"); print("ESCAPED" if @SCOPES@ else "nothing can be done")
except OSError as error: print(error.strerror)
"""
_SCOPED = "not permitted" if landlock.possible() else "nothing can be done|not permitted"

SOCKETS = (
    *(
        Escape(
            name=f"abstract sockets of the host, network {network}",
            python=True,
            script=_ABSTRACT,
            shows=shows,
            steps=(("network", network),),
            cve="CVE-2020-15257",
        )
        for network, shows in (("none", "Connection refused"), ("default", _SCOPED))
    ),
    Escape(
        name="out without network",
        python=True,
        script="""
import socket
for address in ("192.0.2.1", "127.0.0.1"):
    try: socket.create_connection((address, @PORT@), 2); print("ESCAPED")
    except OSError as error: print(error.strerror)
""",
        shows="Network is unreachable\n.*refused",
        steps=(("network", "none"),),
    ),
    *(
        Escape(
            name=f"sockets that read what others say, {name}, network {network}",
            script=f"/bin/{name} | grep -v ^ffffff && echo ESCAPED; echo tried",
            shows="^tried",
            steps=(("network", network),),
        )
        for name in ("sockets64", "sockets32", "socketcalls32", "sockets-x32")
        for network in ("default", "host")
    ),
    Escape(
        name="calls by their numbers of 32 bits",
        script="/bin/calls32 | grep -v -e ffffffff -e ffffffda && echo ESCAPED; echo tried",
        shows="^tried",
    ),
    Escape(
        name="configure the network",
        script="ip link set lo down; ip addr add 192.0.2.9/32 dev lo; ip link add type veth",
        shows="not permitted",
    ),
)
