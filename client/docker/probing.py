"""The API that an address speaks: Docker's, by which `build` then goes, or BuildKit's."""

from __future__ import annotations

from pybuild.client.docker.pipes import dial
from pybuild.client.docker.places import EnginePlace, engine_place
from pybuild.model.errors import PybuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.client.builders import Options

_ASK = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
_HEAD = len("HTTP/1.1 200")


def is_for_docker(address: str, options: Options) -> bool:
    """Return whether a build is for Docker's API: the only way where Python lacks what Unix has, else where the address speaks it."""
    try:
        import fcntl  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        return True
    return address.startswith(("unix://", "tcp://")) and speaks_docker(engine_place(options))


def speaks_docker(place: EnginePlace) -> bool:
    """Return whether Docker's API answers at an address, as far as can be seen: BuildKit's speaks HTTP/2 and nothing else."""
    try:
        pipe = dial(place)
    except PybuildError:
        return False
    answer = b""
    try:
        pipe.sendall(_ASK)
        while len(answer) < _HEAD and (piece := pipe.receive(_HEAD - len(answer))):
            answer += piece
    except OSError:
        return False
    finally:
        pipe.close()
    return answer.startswith(b"HTTP/1.") and answer.endswith(b" 200")
