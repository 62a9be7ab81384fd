"""Owners, ids and devices of steps in a user namespace that has one id [USR, SBX].

Two of them are quick tests, though each takes a third of a second: no other of those sees a recorder.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest

from tests.executor.plain_user import PlainUser, need_sub_ids, plain_user

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def user() -> Iterator[PlainUser]:
    with plain_user() as made:
        yield made


def test_owners_modes_and_types_are_as_they_would_be_with_more_ids(user: PlainUser) -> None:
    """The layer of one script, entry by entry, is that of a build that has a range of ids."""
    need_sub_ids()
    script = """
    mkdir -p /d/sub; echo 1 > /d/f; ln -s f /d/l; mkfifo /d/p; ln /d/f /d/hard
    chown -R 33:44 /d; chown -h 7:8 /d/l; chgrp 9 /d/sub; chmod 6755 /d/f
    chown 1 /d/f; cp -a /d /e; mv /d/l /d/moved; chown 0:0 /e/f; touch /e/left
    mkdir /g; chown 0:50 /g; chmod 2775 /g; mkdir /g/in; touch /g/file; ln -s x /g/link
    """
    one, many = user.run(script), user.run(script, sub_ids=True)
    assert (one.rung, many.rung) == ("userns-single", "userns")
    assert (one.out, one.status, many.out, many.status) == ("", 0, "", 0)
    shown = [
        {
            name: (e.type, oct(e.mode), e.uid, e.gid, e.size, e.linkname)
            for name, e in ran.entries.items()
        }
        for ran in (one, many)
    ]
    assert shown[0] == shown[1]
    assert shown[0]["d/moved"][2:4] == (7, 8)
    assert shown[0]["g/link"][2:4] == (0, 50)


def test_steps_see_what_they_have_set(user: PlainUser) -> None:
    done = user.run(
        "mkdir /d; ln -s /d /l; mkfifo /p; mknod /n b 8 17; chown 3:4 /d; chown -h 5:6 /l /p /n;"
        "stat -c '%n %u %g %F %t %T' /d /l /p /n; ls -dn /n"
    )
    lines = done.out.splitlines()
    assert lines[:3] == [
        "/d 3 4 directory 0 0", "/l 5 6 symbolic link 0 0", "/p 5 6 fifo 0 0",
    ]  # fmt: skip
    assert lines[3] == "/n 5 6 block special file 8 11"
    node = done.entries["n"]
    assert (node.type, node.devmajor, node.devminor, node.uid) == (b"4", 8, 17, 5)


@pytest.mark.slow
def test_a_user_of_the_image_owns_what_it_makes(user: PlainUser) -> None:
    """USR-1: whatever the kernel thinks, USER is who the program is, and whose the files are."""
    done = user.run(
        "umask 027; id -u; id -g; mkdir -p /tmp/d/e; echo > /tmp/d/f; ln -s f /tmp/d/l; mkfifo /tmp/p;"
        "ln -s gone /tmp/dangling; echo > /tmp/dangling; chown 0 /tmp/d/f 2>/dev/null || echo refused;"
        "(sleep 0.05; echo > /tmp/late) & wait",
        user="7:9",
    )
    assert done.out.split() == ["7", "9", "refused"]
    for path in ("tmp/d", "tmp/d/e", "tmp/d/f", "tmp/d/l", "tmp/p", "tmp/gone", "tmp/late"):
        assert done.owner(path) == (7, 9), path
    assert done.entries["tmp/d"].mode == 0o750
    assert done.entries["tmp/d/f"].mode == 0o640


IDS = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def fails(call, *args):
    try: call(*args)
    except OSError as error: return error.errno == errno.EPERM
    return False
os.setgroups([5, 3, 4]); assert os.getgroups() == [3, 4, 5]
os.setresgid(10, 11, 12); assert os.getresgid() == (10, 11, 12)
os.setresuid(20, 21, 22); assert os.getresuid() == (20, 21, 22), os.getresuid()
assert (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) == (20, 21, 10, 11)
assert fails(os.setuid, 0) and fails(os.setgroups, []) and fails(os.setresuid, 0, 0, 0)
os.setuid(22); assert os.getresuid() == (20, 22, 22)
os.setreuid(22, 20); assert os.getresuid() == (22, 20, 20), os.getresuid()
child = os.fork()
if not child:
    assert os.getresuid() == (22, 20, 20)
    grandchild = os.fork()
    if not grandchild:
        while os.getppid() != 1: pass
        os._exit(os.getresuid() != (22, 20, 20))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert libc.setfsuid(22) == 20 and libc.setfsuid(-1) == 22
show = "import os; print(*os.getresuid(), *os.getresgid())"
os.execv("/usr/bin/python3", ["python3", "-ISc", show])
"""


def test_ids_follow_the_kernels_rules_and_are_inherited(user: PlainUser) -> None:
    done = user.run(IDS, python=True)
    # The saved ids are the effective ones after an exec.
    assert (done.out, done.status) == ("22 20 20 10 11 11\n", 0)


@pytest.mark.slow
def test_ids_belong_to_threads(user: PlainUser) -> None:
    """The system calls change one thread; it is the C library that changes all."""
    done = user.run(
        """
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
seen = {}
def other():
    libc.syscall(105, 33)
    seen["other"] = libc.syscall(102)
    open("/byother", "w").close()
thread = threading.Thread(target=other); thread.start(); thread.join()
seen["main"] = libc.syscall(102)
open("/bymain", "w").close()
print(seen["other"], seen["main"])
""",
        python=True,
    )
    assert done.out == "33 0\n"
    assert (done.owner("byother"), done.owner("bymain")) == ((33, 0), (0, 0))


@pytest.mark.slow
def test_set_id_programs_change_who_one_is(user: PlainUser) -> None:
    done = user.run(
        """
import os, shutil, subprocess
for name, owner, mode in (("root", 0, 0o4755), ("33", 33, 0o6755), ("plain", 33, 0o755)):
    shutil.copy("/usr/bin/python3", "/as" + name); os.chown("/as" + name, owner, 44)
    os.chmod("/as" + name, mode)
os.setgid(2); os.setuid(1)
for name in ("root", "33", "plain"):
    code = f"import os; print(*os.getresuid(), *os.getresgid()); open('/by{name}', 'w').close()"
    subprocess.run(["/as" + name, "-ISc", code], check=True)
subprocess.run(["/asroot", "-ISc", "import os; os.chown('/asplain', 8, -1)"], check=True)
""",
        python=True,
    )
    assert done.out.splitlines() == ["1 0 0 2 2 2", "1 33 33 2 44 44", "1 1 1 2 2 2"]
    assert [done.owner("by" + name) for name in ("root", "33", "plain")] == [
        (0, 2),
        (33, 44),
        (1, 2),
    ]
    assert done.owner("asplain") == (8, 44)


def test_chown_takes_set_id_bits_as_the_kernel_does(user: PlainUser) -> None:
    done = user.run(
        "touch /f; chmod 6755 /f; chown 33 /f; stat -c %a /f; chmod 6755 /f; stat -c %a /f"
    )
    assert done.out.split() == ["755", "6755"]


RACE = """
import os, threading
os.mkdir("/r"); os.mkdir("/r/a"); os.mkdir("/r/b"); open("/r/a/f", "w").close()
open("/r/b/f", "w").close(); os.symlink("a", "/r/way")
stop = False
def swap():
    turn = 0
    while not stop:
        turn ^= 1
        os.symlink("ab"[turn], "/r/new"); os.rename("/r/new", "/r/way")
thread = threading.Thread(target=swap); thread.start()
def give(number):
    for _ in range(300):
        os.chown("/r/way/f", number, number)
threads = [threading.Thread(target=give, args=(n,)) for n in (11, 12)]
[t.start() for t in threads]; [t.join() for t in threads]
stop = True; thread.join()
for name in ("/r/a/f", "/r/b/f"):
    status = os.stat(name); assert status.st_uid == status.st_gid in (0, 11, 12), status
print("done")
"""


@pytest.mark.slow
def test_links_swapped_under_chown_lead_to_one_of_their_targets(user: PlainUser) -> None:
    done = user.run(RACE, python=True)
    assert done.out == "done\n"
    for name in ("r/a/f", "r/b/f"):
        uid, gid = done.owner(name)
        assert uid == gid
        assert uid in (0, 11, 12)
    assert done.owner("r/a") == done.owner("r") == (0, 0)


MEMORY = """
import ctypes, mmap, os, threading
libc = ctypes.CDLL(None, use_errno=True)
open("/one", "w").close(); open("/two", "w").close()
name = ctypes.create_string_buffer(b"/one"); stop = False
def flip():
    while not stop: name.value = b"/two"; name.value = b"/one"
thread = threading.Thread(target=flip); thread.start()
for _ in range(2000): libc.chown(name, 5, 5)
key = ctypes.create_string_buffer(b"user.pybuild.owner"); value = b"77:77"
def turn():
    while not over: key.value = b"user.pybuild.ownex"; key.value = b"user.pybuild.owner"
over = False; open("/three", "w").close()
other = threading.Thread(target=turn); other.start(); sets = 0
for _ in range(2000): sets += libc.setxattr(b"/three", key, value, 5, 0) == 0
stop = over = True; thread.join(); other.join()
print(sets, os.stat("/three").st_uid, os.listxattr("/three"))
bad = [libc.chown(ctypes.c_void_p(at), 1, 1) for at in (0, 1, 2**47 - 8, 2**64 - 1)]
page = mmap.mmap(-1, 8192); at = ctypes.addressof(ctypes.c_char.from_buffer(page))
libc.mprotect(ctypes.c_void_p(at + 4096), 4096, 0)
page[4092:4096] = b"/one"
bad.append(libc.chown(ctypes.c_void_p(at + 4092), 1, 1))
page[4091:4096] = b"/one\\0"
print(bad, libc.chown(ctypes.c_void_p(at + 4091), 6, 6))
"""


@pytest.mark.slow
def test_arguments_that_change_meanwhile_or_are_no_memory_do_no_harm(user: PlainUser) -> None:
    done = user.run(MEMORY, python=True)
    first, second = done.out.splitlines()
    assert first == "0 0 []"
    assert second == "[-1, -1, -1, -1, -1] 0"
    assert done.owner("one") == (6, 6)
    assert done.owner("two") in ((0, 0), (5, 5))


def test_notes_can_be_neither_seen_nor_forged(user: PlainUser) -> None:
    done = user.run(
        """
import os
open("/f", "w").close(); os.chown("/f", 33, 44); os.setxattr("/f", "user.mine", b"1")
print(os.listxattr("/f"))
for name in ("user.pybuild.owner", "user.pybuild.node", "user.pybuild.x"):
    for call in (lambda: os.setxattr("/f", name, b"1:1"), lambda: os.removexattr("/f", name),
                 lambda: os.setxattr(os.open("/f", 0), name, b"1:1")):
        try: call(); print("allowed", name)
        except PermissionError: pass
print(os.stat("/f").st_uid, os.getxattr("/f", "user.mine"))
os.removexattr("/f", "user.mine"); print(os.listxattr("/f"))
""",
        python=True,
    )
    assert done.out.splitlines() == ["['user.mine']", "33 b'1'", "[]"]
    assert done.entries["f"].pax_headers == {}


def test_chroot_and_descriptors_of_directories_resolve_as_the_step_means(user: PlainUser) -> None:
    done = user.run(
        """
import os
os.makedirs("/c/etc"); os.mkdir("/etc2"); open("/c/etc/f", "w").close(); open("/etc2/f", "w").close()
os.symlink("/etc2", "/c/abs"); os.makedirs("/c/etc2"); open("/c/etc2/f", "w").close()
fd = os.open("/etc2", os.O_PATH)
os.chown("f", 3, 3, dir_fd=fd)
child = os.fork()
if not child:
    os.chroot("/c"); os.chdir("/")
    os.chown("/abs/f", 4, 4); os.chown("../../etc/f", 5, 5); os._exit(0)
os.waitpid(child, 0)
os.fchown(os.open("/c", os.O_RDONLY), 6, 6)
print(os.stat("/etc2/f").st_uid, os.stat("/c/etc2/f").st_uid, os.stat("/c/etc/f").st_uid)
try: os.fchown(99, 1, 1)
except OSError as error: print(error.errno)
""",
        python=True,
    )
    assert done.out.splitlines() == ["3 4 5", "9"]
    assert done.owner("c") == (6, 6)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls of i386 on x86_64")
def test_32_bit_calls_are_recorded_or_refused(user: PlainUser) -> None:
    """int 0x80 takes the other table of numbers, in the same process."""
    done = user.run(
        """
import ctypes, mmap, os
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
page = libc.mmap(None, 4096, 7, 0x22 | 0x40, -1, 0)
# push rbx; mov eax,edi; mov ebx,esi; mov ecx,edx; (rcx is the 4th) mov edx,r8d; int 0x80; pop; ret
code = bytes.fromhex("53 89f8 89f3 89d1 4489c2 cd80 5b c3")
ctypes.memmove(page, code, len(code)); ctypes.memmove(page + 2048, b"/f", 3)
call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 5)(page)
open("/f", "w").close()
print(call(212, page + 2048, 33, 0, 44), os.stat("/f").st_uid, os.stat("/f").st_gid)
print(call(182, page + 2048, 1, 0, 1), call(213, 7, 0, 0, 0), os.getuid(), call(199, 0, 0, 0, 0))
""",
        python=True,
    )
    assert done.out.splitlines() == ["0 33 44", "-38 0 7 7"]


@pytest.mark.slow
def test_static_programs_and_many_processes_at_once_lose_nothing(user: PlainUser) -> None:
    done = user.run(
        "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5 6 7 8 9 10; do"
        " echo > /f$i-$j; chown $i:$j /f$i-$j; done) & done; wait"
    )
    owners = {name: done.owner(name) for name in done.entries if name.startswith("f")}
    assert owners == {f"f{i}-{j}": (i, j) for i in range(1, 9) for j in range(1, 11)}


@pytest.mark.slow
def test_tasks_that_outlive_the_step_end_with_it(user: PlainUser) -> None:
    done = user.run("(while :; do chown 5 /bin/sh; done) & sleep 0.2; chown 6 /bin/id; exit 3")
    assert done.status == 3
    assert done.owner("bin/id")[0] == 6
