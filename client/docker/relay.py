"""``system dial-stdio``: standard input and output joined to an engine, for whoever comes by ssh."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from pybuild.client.docker.pipes import Pipe, dial
from pybuild.client.docker.places import EnginePlace
from pybuild.image.layer.writing import write_all

_PIECE_BYTES = 1 << 16


def relay(place: EnginePlace) -> None:
    """Carry both ways until the engine has said all that it says; the ends of either go with it.

    Raises:
        EnvironmentFault: nobody answers there.
    """
    pipe = dial(place)
    threading.Thread(target=_carry_in, args=(pipe,), daemon=True).start()
    with suppress(ConnectionError):
        while data := pipe.receive():
            write_all(1, data)


def _carry_in(pipe: Pipe) -> None:
    with suppress(OSError):
        while data := os.read(0, _PIECE_BYTES):
            pipe.sendall(data)
    pipe.end_input()
