"""Capabilities of definitions, by the names that clients look for before they use them.

A client's frontend uses only listed capabilities, so a name stands here exactly if `read` takes all
of its feature and the executor does it.
"""

from __future__ import annotations

_SOURCES = (
    "source.image",
    "source.image.checksum",
    "source.imageblob",
    "source.image.layerlimit",
    "source.image.resolvemode",
    "source.local",
    "source.local.differ",
    "source.local.excludepatterns",
    "source.local.followpaths",
    "source.local.includepatterns",
    "source.local.metadatatransfer",
    "source.local.sessionid",
    "source.local.sharedkeyhint",
    "source.local.unique",
    "source.git",
    "source.git.bundle",
    "source.git.checkoutbundle",
    "source.git.checksum",
    "source.git.fetchbycommit",
    "source.git.fullurl",
    "source.git.keepgitdir",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.mtime",
    "source.git.skipsubmodules",
    "source.git.subdir",
    "source.http",
    "source.http.auth",
    "source.http.header",
    "source.http.checksum",
    "source.http.perm",
    "soruce.http.uidgid",  # so it is spelled
    "source.ocilayout",
)
_STEPS = (
    "exec.meta.base",
    "exec.meta.cdi",
    "exec.meta.cgroup.parent",
    "exec.meta.linux.resources",
    "exec.meta.network",
    "exec.meta.network.proxy",
    "exec.meta.proxyenv",
    "exec.meta.removemountstubs.recursive",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.content",
    "exec.mount.cache.sharing",
    "exec.mount.secret",
    "exec.mount.selector",
    "exec.mount.ssh",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.secretenv",
    "exec.validexitcode",
)
_FILES = (
    "file.base",
    "file.copy.alwaysreplaceexistingdestpaths",
    "file.copy.includeexcludepatterns",
    "file.copy.modestring",
    "file.copy.requiredpaths",
    "file.rm.nofollowsymlink",
    "file.rm.wildcard",
    "file.symlink.create",
)
_REST = (
    "constraints",
    "diffop",
    "mergeop",
    "meta.description",
    "meta.ignorecache",
    "passthroughop",
    "platform",
)

LLB_CAPS = frozenset((*_SOURCES, *_STEPS, *_FILES, *_REST))
"""Capabilities of definitions; those of exporters and the like are for others to add."""
