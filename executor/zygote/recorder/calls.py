"""The system calls of a step that are answered by us, by name and number.

On i386 the calls with 16-bit ids get ENOSYS: every program of this century has the other ones.
There stat keeps showing what the kernel sees, as its many layouts are worth nobody's time.
"""

from __future__ import annotations

O_CREAT = 0o100
O_TMPFILE = 0o20000000
CREATES = O_CREAT | O_TMPFILE

X86_64 = 0xC000003E
I386 = 0x40000003
AARCH64 = 0xC00000B7

ENOSYS_EVERYWHERE = (463, 465, 466)  # setxattrat listxattrat removexattrat: all have older siblings


def _numbers(text: str) -> dict[int, str]:
    """Return names by number from ``name number name number …``."""
    words = text.split()
    return {int(number): name for name, number in zip(words[::2], words[1::2], strict=True)}


NUMBERS: dict[int, dict[int, str]] = {
    X86_64: _numbers(
        "chown 92 fchown 93 lchown 94 fchownat 260 "
        "setuid 105 setgid 106 setreuid 113 setregid 114 setgroups 116 "
        "setresuid 117 setresgid 119 setfsuid 122 setfsgid 123 "
        "getuid 102 getgid 104 geteuid 107 getegid 108 getgroups 115 "
        "getresuid 118 getresgid 120 "
        "stat 4 fstat 5 lstat 6 newfstatat 262 statx 332 "
        "mknod 133 mknodat 259 mkdir 83 mkdirat 258 "
        "symlink 88 symlinkat 266 "
        "open 2 creat 85 openat 257 openat2 437 "
        "execve 59 execveat 322 chroot 161 "
        "setxattr 188 lsetxattr 189 fsetxattr 190 "
        "listxattr 194 llistxattr 195 flistxattr 196 "
        "removexattr 197 lremovexattr 198 fremovexattr 199 "
    ),
    I386: _numbers(
        "chown 212 fchown 207 lchown 198 fchownat 298 "
        "setuid 213 setgid 214 setreuid 203 setregid 204 setgroups 206 "
        "setresuid 208 setresgid 210 setfsuid 215 setfsgid 216 "
        "getuid 199 getgid 200 geteuid 201 getegid 202 getgroups 205 "
        "getresuid 209 getresgid 211 "
        "mknod 14 mknodat 297 mkdir 39 mkdirat 296 "
        "symlink 83 symlinkat 304 "
        "open 5 creat 8 openat 295 openat2 437 "
        "execve 11 execveat 358 chroot 61 "
        "setxattr 226 lsetxattr 227 fsetxattr 228 "
        "listxattr 232 llistxattr 233 flistxattr 234 "
        "removexattr 235 lremovexattr 236 fremovexattr 237 "
    ),
    AARCH64: _numbers(
        "fchownat 54 fchown 55 "
        "setuid 146 setgid 144 setreuid 145 setregid 143 setgroups 159 "
        "setresuid 147 setresgid 149 setfsuid 151 setfsgid 152 "
        "getuid 174 getgid 176 geteuid 175 getegid 177 getgroups 158 "
        "getresuid 148 getresgid 150 "
        "fstat 80 newfstatat 79 statx 291 "
        "mknodat 33 mkdirat 34 symlinkat 36 "
        "openat 56 openat2 437 "
        "execve 221 execveat 281 chroot 51 "
        "setxattr 5 lsetxattr 6 fsetxattr 7 "
        "listxattr 11 llistxattr 12 flistxattr 13 "
        "removexattr 14 lremovexattr 15 fremovexattr 16 "
    ),
}

# What copies a file up without a word about its owner. Asked about only where links in the layers
# below have owners: the copy of a link does not remember what it is a copy of.
MOVES: dict[int, dict[int, str]] = {
    X86_64: _numbers("rename 82 renameat 264 renameat2 316 link 86 linkat 265 utimensat 280"),
    I386: _numbers(
        "rename 38 renameat 302 renameat2 353 link 9 linkat 303 utimensat 320 utimensat 412"
    ),
    AARCH64: _numbers("renameat 38 renameat2 276 linkat 37 utimensat 88"),
}

SOCKETCALL = (I386, 102)
"""Answered by `socketcalls`, as in steps that have no recorder."""

# i386 with 16-bit ids: lchown setuid getuid setgid getgid geteuid getegid setreuid setregid
# getgroups setgroups fchown setfsuid setfsgid setresuid getresuid setresgid getresgid chown
NARROW: dict[int, tuple[int, ...]] = {
    I386: (
        *(16, 23, 24, 46, 47, 49, 50, 70, 71, 80, 81, 95, 138, 139),
        *(164, 165, 170, 171, 182),
    ),
}

# Of prctl, only what keeps capabilities over a setuid is asked about.
PRCTL = {X86_64: 157, I386: 172, AARCH64: 167}
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
KEEPING_BITS = 0x14  # SECBIT_KEEP_CAPS, SECBIT_NO_SETUID_FIXUP

# Where open's flags are, by number of the argument: only what may make a file is asked about.
FLAGS_ARGUMENT: dict[int, dict[int, int]] = {
    X86_64: {2: 1, 257: 2},
    I386: {5: 1, 295: 2},
    AARCH64: {56: 2},
}
