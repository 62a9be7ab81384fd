"""Single values of received definitions: bounds, names, and what errors say [remote-api 9]."""

from __future__ import annotations

import pytest

from pybuild.buildkit.llb import copies, fields, graph, names
from pybuild.buildkit.llb.caps import LLB_CAPS
from pybuild.buildkit.llb.files import read_file
from pybuild.buildkit.llb.graph import Edge, Entry
from pybuild.buildkit.llb.mounts import SCRATCH, empty_cache
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, FileOp, LocalSource, Mkdir, Owner, Vertex, VertexMeta
from pybuild.model.span import Span
from tests.buildkit.llbs import BUSYBOX, Builder, copy, exec_op, file_op, mkdir, one, read_all

# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fits"), [(-1, False), (0, True), (0o7777, True), (0o10000, False)]
)
def test_modes_have_twelve_bits(value: int, fits: bool) -> None:
    if fits:
        assert fields.mode(value, "x") == value
        return
    with pytest.raises(UserError, match=f"invalid definition: x has the mode {value}"):
        fields.mode(value, "x")


@pytest.mark.parametrize(
    ("value", "fits"), [(-1, False), (0, True), (2**32 - 2, True), (2**32 - 1, False)]
)
def test_the_last_id_is_nobodys(value: int, fits: bool) -> None:
    if fits:
        assert fields.owner_id(value, "x") == value
        return
    with pytest.raises(UserError, match=f"invalid definition: x has the id {value}"):
        fields.owner_id(value, "x")


def test_times_are_seconds_and_what_is_beyond_them_or_not_set() -> None:
    assert fields.moment(-1) == (None, 0)
    assert [fields.moment(n * 10**9) for n in (-3, 0, 7)] == [(-3, 0), (0, 0), (7, 0)]
    for nanoseconds in (1, -2, 10**9 - 1, 10**9 + 1, -(10**9) - 1):
        seconds, beyond = fields.moment(nanoseconds)
        assert seconds is not None and seconds * 10**9 + beyond == nanoseconds
        assert 0 <= beyond < 10**9


@pytest.mark.parametrize(
    ("text", "base", "value"),
    [("0", 10, 0), ("4294967295", 10, 4294967295), ("0644", 8, 0o644), ("007", 10, 7)],
)
def test_numbers_are_digits(text: str, base: int, value: int) -> None:
    assert fields.number(text, "x", base) == value


@pytest.mark.parametrize(
    ("text", "base"), [("", 10), ("12345678901", 10), ("+1", 10), ("8", 8), ("²", 10), ("1 ", 10)]
)
def test_what_is_no_number_is_quoted(text: str, base: int) -> None:
    with pytest.raises(UserError) as caught:
        fields.number(text, "x", base)
    assert caught.value.message == f'invalid definition: x is "{text}"'


def test_flags_are_true_false_or_nothing() -> None:
    assert [fields.boolean(text, "x") for text in ("true", "false", "")] == [True, False, False]
    for text in ("True", "1", "yes"):
        with pytest.raises(UserError, match=f'invalid definition: x is "{text}"'):
            fields.boolean(text, "x")


def test_lists_of_patterns_are_json() -> None:
    assert fields.patterns("", "x") == fields.patterns("null", "x") == ()
    assert fields.patterns('["a","b c"]', "x") == ("a", "b c")
    assert fields.texts(["a", ""], "x") == ("a", "")
    with pytest.raises(UserError, match="invalid definition: x has a NUL in it"):
        fields.texts(["a", "b\0"], "x")


@pytest.mark.parametrize(
    ("path", "is_top"), [("/", True), ("/a", True), ("/a/", True), ("/a/b", False)]
)
def test_only_the_root_is_above_what_is_at_the_top(path: str, is_top: bool) -> None:
    assert copies.is_top(path) is is_top


def test_texts_of_strangers_are_cut_where_they_are_quoted() -> None:
    assert graph.shortened("x" * 200) == "x" * 200
    assert graph.shortened("x" * 201) == "x" * 200 + "…"


# --- entries --------------------------------------------------------------------------------------


def entry(op: pb.Op | None = None, name: str = "", inputs: int = 2) -> Entry:
    metadata = pb.OpMetadata()
    if name:
        metadata.description["llb.customname"] = name
    edges = tuple(Edge(Digest.of(b"%d" % number), number) for number in range(inputs))
    return Entry(Digest.of(b"op"), op or pb.Op(), edges, metadata, (Span("D", 1, 1),))


def test_an_input_is_one_of_those_there_are_or_nothing() -> None:
    some = entry()
    assert some.edge(-1, "x") is None
    assert [some.edge(number, "x") for number in (0, 1)] == list(some.inputs)
    for index in (-2, 2, 2**40):
        with pytest.raises(UserError, match=f"x refers to input {index} of 2"):
            some.edge(index, "x")


def test_an_error_names_the_op_and_its_lines() -> None:
    error = entry(name="[1/2] RUN x").wrong("no")
    assert error.message == 'invalid definition: op "[1/2] RUN x": no'
    assert error.spans == (Span("D", 1, 1),)
    digest = Digest.of(b"op")
    assert entry().wrong("no").message == f"invalid definition: op {digest[:19]}: no"


@pytest.mark.parametrize(
    ("op", "name"),
    [
        (BUSYBOX, "docker-image://docker.io/library/busybox:latest"),
        (exec_op(args=["a", "b c"]), "a b c"),
        (pb.Op(merge=pb.MergeOp()), "merge"),
        (pb.Op(diff=pb.DiffOp()), "diff"),
        (pb.Op(), ""),
        (
            file_op(
                copy(0, 1, src="/a", dest="/b"),
                mkdir("/d", 0),
                pb.FileAction(mkfile=pb.FileActionMkFile(path="/f")),
                pb.FileAction(symlink=pb.FileActionSymlink(oldpath="o", newpath="/n")),
                pb.FileAction(),
                pb.FileAction(rm=pb.FileActionRm(path="/r")),
            ),
            "copy /a /b, mkdir /d, mkfile /f, symlink o /n, rm /r",
        ),
    ],
)
def test_an_op_without_a_name_is_described(op: pb.Op, name: str) -> None:
    assert names.shown(entry(op)) == name
    assert names.shown(entry(op, name="mine")) == "mine"


def test_names_are_cut() -> None:
    assert names.shown(entry(exec_op(args=["x" * 5000]))) == "x" * 4096
    assert names.shown(entry(file_op(*[mkdir("/d", 0)] * 101))).count("mkdir") == 100


def test_only_capabilities_that_are_there_are_listed() -> None:
    assert {"source.image", "exec.mount.cache", "file.base", "mergeop"} <= LLB_CAPS
    assert "soruce.http.uidgid" in LLB_CAPS and len(LLB_CAPS) == 71


# --- the graph ------------------------------------------------------------------------------------


def refused(definition: pb.Definition) -> str:
    with pytest.raises(UserError) as caught:
        graph.parse(definition)
    return caught.value.message


def test_bounds_are_the_last_that_is_let_through() -> None:
    builder = Builder()
    base = builder.add(BUSYBOX)
    most = builder.end(builder.add(exec_op(), *[base] * graph.MAX_INPUTS))
    assert len(graph.parse(most).entries) == 2
    too_many = refused(pb.Definition(defs=[b""] * (graph.MAX_OPS + 1)))
    assert too_many == "definition has 50001 ops, at most 50000 are possible"
    assert "does not name the result" in refused(pb.Definition(defs=[b""] * graph.MAX_OPS))


def test_the_last_op_names_one_result_and_nothing_else() -> None:
    builder = Builder()
    base = builder.add(BUSYBOX)
    two = builder.definition
    builder.add(pb.Op(), base, base)
    assert "does not name the result" in refused(two)
    builder = Builder()
    builder.add(pb.Op(merge=pb.MergeOp()), builder.add(BUSYBOX))
    assert "does not name the result" in refused(builder.definition)


def test_a_result_has_a_number_from_nought() -> None:
    builder = Builder()
    digest, _ = builder.add(BUSYBOX)
    definition = builder.end((digest, -1))
    assert refused(definition) == f"invalid definition: result -1 of op {digest[:19]}"


def lines_of(*ranges: tuple[int, int], index: int = 0) -> tuple[Span, ...]:
    definition = one(exec_op(), BUSYBOX)
    digest = Digest.of(definition.defs[1])
    definition.Source.infos.add(filename="D")
    where = definition.Source.locations[digest].locations.add(sourceIndex=index)
    for first, last in ranges:
        place = where.ranges.add()
        place.start.line, place.end.line = first, last
    return read_all(definition).result.meta.spans


def test_lines_that_contradict_themselves_are_left_out() -> None:
    assert lines_of((1, 1), (2, 4)) == (Span("D", 1, 1), Span("D", 2, 4))
    assert lines_of((3, 0), (3, 2)) == (Span("D", 3, 3), Span("D", 3, 3))
    assert lines_of((0, 1), (-1, 1)) == ()
    assert lines_of((1, 2**31 - 1)) == (Span("D", 1, 2**31 - 1),)
    assert lines_of((1, 1), index=1) == lines_of((1, 1), index=-1) == ()


def test_a_file_without_content_is_not_kept() -> None:
    definition = one(BUSYBOX)
    definition.Source.infos.add(filename="D", data=b"x")
    definition.Source.infos.add(filename="E")
    assert graph.parse(definition).files == {"D": b"x"}


def test_looking_for_metadata_adds_none() -> None:
    definition = one(BUSYBOX)
    graph.parse(definition)
    assert not len(definition.metadata)


# --- steps ----------------------------------------------------------------------------------------


def test_the_most_mounts_and_actions_are_let_through() -> None:
    tmpfs = [
        pb.Mount(dest=f"/t{number}", input=-1, output=-1, mountType=pb.TMPFS)
        for number in range(1000)
    ]
    found = read_all(one(exec_op(*tmpfs[:999]), BUSYBOX)).result.op
    assert isinstance(found, ExecOp) and len(found.mounts) == 1000
    with pytest.raises(UserError, match="1001 mounts"):
        read_all(one(exec_op(*tmpfs), BUSYBOX))


def test_results_are_bounded() -> None:
    op = exec_op(*[pb.Mount(dest=f"/{n}", input=-1, output=n) for n in range(1, 65)])

    def merged(count: int) -> pb.Definition:
        builder = Builder()
        digest, _ = builder.add(op, builder.add(BUSYBOX))
        merge = pb.Op(merge=pb.MergeOp(inputs=[pb.MergeInput(input=n) for n in range(count)]))
        return builder.end(builder.add(merge, *[(digest, n) for n in range(count)]))

    assert len(read_all(merged(64)).result.inputs) == 64
    with pytest.raises(UserError, match="65 results"):
        read_all(merged(65))


def test_a_seed_that_does_more_than_make_a_directory_is_a_content() -> None:
    def seed(mkdir: Mkdir, *more: Mkdir, base: Vertex = SCRATCH) -> Vertex:
        return Vertex(FileOp(actions=(mkdir, *more)), (base,))

    made = Mkdir(path="/c", make_parents=False, mode=0o700)
    assert empty_cache(seed(made), "/c") == (0, 0, 0o700)
    owned = Mkdir(path="/c", make_parents=False, mode=0o755, owner=Owner(user="7"))
    assert empty_cache(seed(owned), "/c") == (7, 0, 0o755)
    for user, group in (("bob", "1"), ("1", "bob"), ("1" * 11, "1")):
        named = Mkdir(path="/c", make_parents=False, owner=Owner(user=user, group=group))
        assert empty_cache(seed(named), "/c") is None
    assert empty_cache(seed(made), "/d") is None
    assert empty_cache(seed(Mkdir(path="/c")), "/c") is None
    assert empty_cache(seed(Mkdir(path="/c", make_parents=False, mtime=1)), "/c") is None
    assert empty_cache(seed(made, made), "/c") is None
    assert empty_cache(seed(made, base=Vertex(LocalSource(name="x"))), "/c") is None


def test_a_mount_for_shared_memory_is_a_setting_unless_nobody_may_write() -> None:
    def shm(size: int, readonly: bool = False) -> tuple[int, int]:
        mount = pb.Mount(
            dest="/dev/shm", input=-1, output=-1, mountType=pb.TMPFS, readonly=readonly,
            TmpfsOpt=pb.TmpfsOpt(size=size),
        )  # fmt: skip
        found = read_all(one(exec_op(mount), BUSYBOX)).result.op
        assert isinstance(found, ExecOp)
        return found.settings.shm_size_bytes, len(found.mounts)

    assert shm(7) == (7, 1)
    assert shm(0) == (0, 2)
    assert shm(7, readonly=True) == (0, 2)


def test_an_id_of_a_cache_may_be_a_slash() -> None:
    def cache_id(text: str) -> str:
        mount = pb.Mount(
            dest="/c", input=-1, output=-1, mountType=pb.CACHE, cacheOpt=pb.CacheOpt(ID=text)
        )
        found = read_all(one(exec_op(mount), BUSYBOX)).result.op
        assert isinstance(found, ExecOp)
        return found.mounts[1].cache_id

    assert [cache_id(text) for text in ("/", "/a", "a", "//a")] == ["/", "a", "a", "/a"]


@pytest.mark.parametrize(("id", "name"), [("", "N"), ("i", ""), ("i", "N=x")])
def test_a_secret_variable_has_an_id_and_a_name(id: str, name: str) -> None:
    op = exec_op()
    op.exec.secretenv.add(ID=id, name=name)
    with pytest.raises(UserError, match="invalid secret variable"):
        read_all(one(op, BUSYBOX))


def test_a_step_without_a_root_is_refused() -> None:
    op = pb.Op(exec=pb.ExecOp(meta=pb.Meta(args=["x"]), mounts=[pb.Mount(dest="/m", output=0)]))
    with pytest.raises(UserError, match="invalid exec op with no rootfs"):
        read_all(one(op, BUSYBOX))


def test_devices_may_be_optional() -> None:
    op = exec_op()
    op.exec.cdiDevices.add(name="a")
    op.exec.cdiDevices.add(name="b", optional=True)
    found = read_all(one(op, BUSYBOX)).result.op
    assert isinstance(found, ExecOp)
    assert [(one.name, one.required) for one in found.devices] == [("a", True), ("b", False)]


def test_each_proxy_is_there_in_both_cases() -> None:
    op = exec_op()
    proxies = op.exec.meta.proxy_env
    proxies.http_proxy, proxies.ftp_proxy, proxies.no_proxy, proxies.all_proxy = "h", "f", "n", "a"
    found = read_all(one(op, BUSYBOX)).result.op
    assert isinstance(found, ExecOp)
    assert found.proxy_env == (
        "HTTP_PROXY=h", "http_proxy=h", "FTP_PROXY=f", "ftp_proxy=f", "NO_PROXY=n", "no_proxy=n",
        "ALL_PROXY=a", "all_proxy=a",
    )  # fmt: skip


# --- files ----------------------------------------------------------------------------------------


def test_a_name_is_looked_up_in_the_input_that_the_chain_began_with() -> None:
    builder = Builder()
    base = builder.add(BUSYBOX)
    action = mkdir("/a", 0, 0)
    action.mkdir.owner.user.byName.name = "x"
    action.mkdir.owner.user.byName.input = 1  # the same tree under another number
    definition = builder.end(builder.add(file_op(action), base, base))
    found = read_all(definition).result.op
    assert isinstance(found, FileOp)
    (made,) = found.actions
    assert isinstance(made, Mkdir) and made.owner == Owner(user="x")
    action.mkdir.owner.user.Clear()
    with pytest.raises(UserError, match="neither a name nor a number"):
        read_all(one(file_op(action), BUSYBOX))


def test_the_results_that_nobody_uses_are_not_read_as_such() -> None:
    some = entry(file_op(mkdir("/a", -1, 0), mkdir("/b", 2, 1)))
    meta = VertexMeta(name="n")

    def tree(edge: Edge) -> Vertex:
        raise AssertionError(edge)

    found = read_file(some, frozenset((1,)), meta, tree, {})
    assert list(found) == [1] and found[1].meta is meta
    both = read_file(some, frozenset((0, 1)), meta, tree, {})
    assert both[1].inputs == (both[0],)
    with pytest.raises(UserError, match="there is no result 2"):
        read_file(some, frozenset((1, 2)), meta, tree, {})
