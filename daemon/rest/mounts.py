"""One of HostConfig.Mounts, read as a mount of ours [CTR-103]."""

from __future__ import annotations

from pybuild.daemon.rest.fields import Fields
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.volumes.mountpoint import MountPoint
from pybuild.volumes.reading import mount_from

_OPTIONS = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}


def mount_of(one: Fields) -> MountPoint:
    """Return the mount that a client describes.

    Raises:
        ApiRefusal, UsageError: there can be none.
    """
    kind = one.text("Type")
    if kind not in _OPTIONS:
        raise ApiRefusal(
            400, f'invalid mount config: mount type "{kind[:50]}" is not done by pybuild'
        )
    for other, name in _OPTIONS.items():
        if other != kind and one.part(name):
            raise ApiRefusal(
                400, f'invalid mount config for type "{kind}": field {name} must not be specified'
            )
    given = {"type": kind, "target": one.text("Target")}
    if not given["target"]:
        raise ApiRefusal(
            400, f'invalid mount config for type "{kind}": field Target must not be empty'
        )
    if source := one.text("Source"):
        given["source"] = source
    if one.flag("ReadOnly"):
        given["readonly"] = "true"
    options = one.part(_OPTIONS[kind])
    if kind == "bind":
        if options.text("Propagation"):
            given["bind-propagation"] = options.text("Propagation")
        if options.flag("NonRecursive"):
            given["bind-nonrecursive"] = "true"
    elif kind == "tmpfs":
        if options.number("SizeBytes"):
            given["tmpfs-size"] = str(options.number("SizeBytes"))
        if options.has("Mode"):
            given["tmpfs-mode"] = f"{options.number('Mode'):o}"
    driver = options.part("DriverConfig")
    labels: dict[str, str] = {}
    if kind == "volume":
        labels = options.pairs("Labels")
        if options.flag("NoCopy"):
            given["volume-nocopy"] = "true"
        if options.text("Subpath"):
            given["volume-subpath"] = options.text("Subpath")
        if driver.text("Name"):
            given["volume-driver"] = driver.text("Name")
    text = ",".join(f"{key}={value}" for key, value in given.items())
    create = kind == "bind" and options.flag("CreateMountpoint")
    return mount_from(text, given, labels, driver.pairs("Options"), creates=create)
