"""The containers that need an image, which keep it from being removed as docker's do [EP-15]."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.model.errors import UserError


def users_of(containers: Containers, digest: str) -> list[Container]:
    """Return the containers that were made of the image whose entry in the store is *digest*."""
    return [one for one in containers.list() if digest in one.config.image_digests]


def conflict(name: str, short: str, users: Sequence[Container], *, own: bool, force: bool) -> str:
    """Return why the last name of an image cannot be removed, "": it can.

    Those that run always need it, but for *force* with a name; others need it without force.

    Args:
        own: *name* is one of its names, not its id, whose beginning is *short*.
    """
    running = next((one for one in users if _runs(one)), None)
    if running is not None and not (own and force):
        return (
            f"conflict: unable to delete {name if own else short} (cannot be forced) - image is being "
            f"used by running container {running.config.short_id}"
        )
    if users and not force:
        return (
            f'conflict: unable to remove repository reference "{name}" (must force) - container '
            f"{users[0].config.short_id} is using its referenced image {short}"
        )
    return ""


def refuse_used(containers: Containers, name: str, digest: str, *, own: bool, force: bool) -> None:
    """Refuse to remove the last name of an image that containers need.

    Raises:
        UserError: they do.
    """
    short = digest.removeprefix("sha256:")[:12]
    if text := conflict(name, short, users_of(containers, digest), own=own, force=force):
        raise UserError(text, hints=["pybuild ps -a lists containers; rm them, or: rmi -f"])


def _runs(container: Container) -> bool:
    with suppress(UserError):  # it was removed meanwhile
        return container.state().lives
    return False
