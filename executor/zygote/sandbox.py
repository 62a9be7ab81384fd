"""A step's own process, from the clone to the exec [SBX].

It is the first process of new pid, mount, ipc, uts and cgroup namespaces (and a network namespace
when it gets no network), set up in one fixed order: whatever needs the host's view comes before
pivot_root, whatever needs privileges before they are given up.
"""

from __future__ import annotations

import _socket
import os

from pybuild.executor.zygote import (
    cgroups,
    kernelfs,
    landlock,
    mounts,
    privileges,
    rootfs,
    sealing,
    setup,
    sharing,
    spare,
    stage,
    surroundings,
    syscalls,
    terminals,
    ulimits,
    usernet,
    users,
    wire,
    worker,
)
from pybuild.image.layer import ownership
from pybuild.model.border import unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as RawSocket
    from typing import NoReturn

    from pybuild.executor.steps.spec import StepSpec


def become_step(
    channel: RawSocket,
    fds: list[int],
    leaf: cgroups.Leaf,
    recorder: RawSocket | None,
    net: usernet.Usernet,
    staged: stage.StagedRoot | None = None,
) -> NoReturn:
    """Become the program of the step that *channel* asks for; *fds* are its stdout and stderr,
    and its stdin if there is a third; *leaf* has its cgroups.

    A fault is said on the channel, or that all is ready; then it closes by itself.

    Args:
        staged: made ahead, by a process that has begun a session already.
    """
    try:
        if staged is None:
            leaf.join()
        spec: StepSpec = unpacked(wire.receive_one(channel))
        if staged is None and not spec.sharing.flags & syscalls.CLONE_NEWCGROUP:
            syscalls.unshare(syscalls.CLONE_NEWCGROUP)
        # Asked here because these paths lead nowhere once the root is another.
        lists = (lower + ownership.LIST_SUFFIX for lower in spec.lowers)
        has_lists = recorder is not None and any(map(os.path.exists, lists))
        setup.check(spec)
        net.wait()
        if spec.oci is not None:
            from pybuild.executor.zygote import runtime

            runtime.supervise(channel, fds, spec, spec.oci, leaf)
        surroundings.write_sysctls(spec.privileges)
        user, trees = _build_root(spec, staged)
        warnings = [*leaf.warnings, *ulimits.apply(spec.ulimits)]
        warnings += surroundings.adjust_oom_score(spec.privileges)
        if not leaf.has_pids:
            ulimits.bound_processes(leaf.pids)
        for warning in warnings:
            channel.sendall(wire.frame(("warning", warning)))
        environment = confine(channel, fds, spec, user, recorder, trees, has_lists=has_lists)
    except BaseException as error:  # noqa: BLE001 - all of it is reported
        channel.sendall(wire.frame(worker.fault_message(error)))
        os._exit(1)
    setup.execute(spec.args, environment, channel if spec.lasting else None)


def confine(
    channel: RawSocket,
    fds: list[int],
    spec: StepSpec,
    user: users.StepUser,
    recorder: RawSocket | None,
    trees: list[int],
    *,
    has_lists: bool,
) -> dict[str, str]:
    """Take the streams and give up what the program must not have; return its environment.

    Only the exec comes after it.
    """
    environment = setup.environment_of(spec, user.home)
    setup.reset_signals()
    terminal = -1
    if spec.terminal is None:
        setup.take_streams(fds)
    else:
        terminal = terminals.take_own(spec.terminal, user)
    setup.take_terminal()
    if recorder is not None:
        _have_recorded(recorder, spec, user, has_lists=has_lists)
    if spec.network == "default":
        landlock.leave_abstract_sockets()
    listener = privileges.confine(
        user,
        insecure=spec.insecure,
        shares_network=not spec.own_network,
        given=spec.privileges,
    )
    if not spec.lasting:
        # A change of credentials has made the kernel forget it.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
    setup.say_ready(channel, listener, trees, terminal)
    return environment


def enter_cgroups(leaf: cgroups.Leaf) -> None:
    leaf.join()
    # Only now, because a cgroup namespace shows as its root where it was made.
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)


def stand_by(made: spare.Spare) -> NoReturn:
    """Do what is the same for each step, then wait for one, and become its program."""
    enter_cgroups(made.leaf)
    if made.connected is not None:
        made.connected.enter()
        made.connected.close()
    begin_session(made.kind.hostname)
    privileges.bound()
    staged = stage.StagedRoot(made.kind, made.store_fd)
    try:
        fds = made.receive()
    except EOFError:
        os._exit(0)
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fds.pop(0))
    channel.setblocking(True)
    become_step(channel, fds, made.leaf, None, usernet.Usernet(False), staged)


def _have_recorded(
    recorder: RawSocket, spec: StepSpec, user: users.StepUser, *, has_lists: bool
) -> None:
    """Put ids and owners into the recorder's hands; from here on it answers for this process."""
    from pybuild.executor.zygote.recorder import loop

    lowers = list(spec.lowers) if has_lists else []
    uppers = [spec.upper]
    for mount in spec.mounts:
        lowers += mount.lowers
        uppers += [mount.upper] if mount.upper else []
    # No path leads back to the host's files from here, but the descriptors are the recorder's own.
    listener = privileges.listen(
        insecure=spec.insecure, moves=has_lists, shares_network=not spec.own_network
    )
    loop.send(recorder, listener, loop.RecorderOrder(user, tuple(lowers), tuple(uppers)))


def begin_session(hostname: str) -> None:
    """Begin anew; *hostname*: "" where the machine's namespace of names is not ours to change."""
    os.setsid()
    begin_keyring()
    if hostname:
        syscalls.sethostname(hostname)


def begin_keyring() -> None:
    """Leave the builder's keys behind."""
    try:
        syscalls.join_session_keyring("pybuild")
    except OSError:
        pass  # A kernel or an outer sandbox without keyrings has nothing to protect.


def _build_root(
    spec: StepSpec, staged: stage.StagedRoot | None
) -> tuple[users.StepUser, list[int]]:
    """Make the root ours; return the user, and the trees that are to be sealed."""
    if staged is None:
        has_own_names = not spec.sharing.flags & syscalls.CLONE_NEWUTS
        begin_session(spec.hostname if has_own_names else "")
        if spec.domainname and has_own_names:
            syscalls.setdomainname(spec.domainname)
        if spec.own_network:
            setup.loopback_up()
            if spec.is_container:
                setup.free_ports()
    if staged is not None and staged.is_away:
        root_fd = staged.mount_root(spec)
        trees = sealing.trees_of(spec, root_fd, [])
    else:
        root_fd, trees = _mount_root(spec, staged)
    user = users.resolve(root_fd, spec.user, spec.privileges.groups)
    os.fchdir(root_fd)
    os.close(root_fd)
    if staged is not None and staged.is_away:
        os.chroot(".")
    else:
        syscalls.pivot_root(".", ".")
        syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")
    setup.enter_cwd(spec.cwd, users.ROOT if spec.is_container else user)
    if spec.readonly:
        tree = syscalls.open_tree(syscalls.AT_FDCWD, "/", 0)
        syscalls.mount_setattr(tree, syscalls.MOUNT_ATTR_RDONLY)
        os.close(tree)
    os.umask(0o022)
    return user, trees


def _mount_root(spec: StepSpec, staged: stage.StagedRoot | None) -> tuple[int, list[int]]:
    """Mount the root with all that is in it; return it, and the trees that are to be sealed."""
    layout = rootfs.Layout(spec.work, spec.common)
    if staged is None:
        prepared = mounts.prepare(spec, layout, mounts.EngineFiles(layout.root))
    else:
        prepared = staged.files
    targets = [*rootfs.KERNELS]
    targets += [(p.target, p.directory) for p in prepared if not setup.is_kernels(p.target)]
    root_fd = rootfs.mount_root(layout, spec.lowers, spec.upper, targets, insecure=spec.insecure)
    if staged is not None:
        staged.move(root_fd)
    else:
        kernelfs.mount_all(
            root_fd,
            own_network=spec.own_network,
            insecure=spec.insecure,
            shm_bytes=spec.shm_size_bytes,
            shared=spec.sharing,
            shm=sharing.enter(spec.sharing),
        )
    trees = sealing.trees_of(spec, root_fd, prepared)
    for mount in prepared:
        mounts.attach(root_fd, mount)
    # What is masked there must be so above the step's own mounts, too.
    if staged is None and not spec.insecure:
        kernelfs.hide(root_fd)
    return root_fd, trees
