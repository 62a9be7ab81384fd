"""Each instruction's forms, flags and complaints."""

from __future__ import annotations

import pytest

from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.parse import parse_dockerfile, parse_instruction
from pybuild.model.errors import UserError
from pybuild.model.span import Span

SPAN = Span("Dockerfile", 1, 1)


def one(text: str) -> ast.Instruction:
    file = parse_dockerfile(b"FROM base\n" + text.encode())
    (item,) = file.stages[0].body
    return item


@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT"])
@pytest.mark.parametrize(
    ("text", "args", "is_shell"),
    [
        ('["a", "b c"]', ("a", "b c"), False),
        ('[ "a" ]', ("a",), False),  # E33
        ('["\\u00e9\\"\\ud83d\\ude00"]', ('é"\U0001f600',), False),
        ('["\\ud800"]', ("\ufffd",), False),
        ("['a','b']", ("['a','b']",), True),  # E30
        ('["a"] x', ('["a"] x',), True),  # E32
        ("[ -f /x ] && y", ("[ -f /x ] && y",), True),  # E34
        ('["a" "b"]', ('["a" "b"]',), True),
        ('["a",]', ('["a",]',), True),
        ('["a\\x"]', ('["a\\x"]',), True),
        ("[" * 60_000, ("[" * 60_000,), True),
        ("[NaN]", ("[NaN]",), True),
        ("[1e999]", ("[1e999]",), True),
        ("{}", ("{}",), True),
        ("a   'b'  \"c\"", ("a   'b'  \"c\"",), True),
    ],
)
def test_commands_are_lists_or_silently_shell_text(
    keyword: str, text: str, args: tuple[str, ...], is_shell: bool
) -> None:
    """[FRM-2, FRM-4]"""
    item = one(f"{keyword} {text}")
    assert isinstance(item, ast.Run | ast.Cmd | ast.Entrypoint)
    assert (item.command.args, item.command.is_shell) == (args, is_shell)


@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT", "SHELL", "COPY", "VOLUME"])
@pytest.mark.parametrize("text", ['["a", 1]', "[[]]", '[null, "x"]', "[{}]", "[[[1]]]"])
def test_valid_json_of_anything_else_is_an_error(keyword: str, text: str) -> None:
    """[FRM-3, E31]"""
    with pytest.raises(UserError, match="arrays must be comprised of strings only$"):
        one(f"{keyword} {text}")


@pytest.mark.parametrize(
    ("text", "pairs", "legacy"),
    [
        ("a=b\\ c d=\"e f\" g='h $a'", [("a", "b\\ c"), ("d", '"e f"'), ("g", "'h $a'")], False),
        ("k  v  w ", [("k", "v  w")], True),  # E39
        ('"com.x"="a b" y=', [('"com.x"', '"a b"'), ("y", "")], False),  # E41
        ("a=b=c", [("a", "b=c")], False),
        ("a='b\\' c=d", [("a", "'b\\'"), ("c", "d")], False),  # no escapes in single quotes
        ('a="b\\" c" d=', [("a", '"b\\" c"'), ("d", "")], False),
        ('a="unclosed b=c', [("a", '"unclosed b=c')], False),
        ("a=''", [("a", "''")], False),
        ("a 'b=c' d", [("a", "'b=c' d")], True),
        ("a\tb", [("a", "b")], True),
        # Go's white space, not Python's.
        ("a=b\u00a0c=d\u2028", [("a", "b"), ("c", "d")], False),
        ("a=b\x1cc=d", [("a", "b\x1cc=d")], False),
    ],
)
@pytest.mark.parametrize("keyword", ["ENV", "LABEL"])
def test_key_value_lists(
    keyword: str, text: str, pairs: list[tuple[str, str]], legacy: bool
) -> None:
    """[KV-1..3]"""
    item = one(f"{keyword} {text}")
    assert isinstance(item, ast.Env | ast.Label)
    assert [(pair.key, pair.value) for pair in item.pairs] == pairs
    assert item.legacy is legacy


def test_arg_takes_names_with_and_without_default() -> None:
    """[KV-5, E42]"""
    item = one("ARG a=1 b=${a}2 c d=")
    assert isinstance(item, ast.Arg)
    assert [(i.name, i.default) for i in item.items] == [
        ("a", "1"),
        ("b", "${a}2"),
        ("c", None),
        ("d", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENV", "ENV requires at least one argument"),  # E19
        ("LABEL", "LABEL requires at least one argument"),
        ("ARG", "ARG requires at least one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER  ", "USER requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("ENV a", "ENV must have two arguments"),  # KV-3
        (
            "ENV a=b c",
            'Syntax error - can\'t find = in "c". Must be of the form: name=value',
        ),  # E40
        ("ENV =x", "ENV names can not be blank"),  # E43
        ("LABEL a=b =x", "LABEL names can not be blank"),
        ("ARG =x", "ARG names can not be blank"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),  # E20
        ("FROM a as", "FROM requires either one or three arguments"),
        ("FROM a ass b", "FROM requires either one or three arguments"),
        ("FROM a as b c", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            (
                'invalid name for build stage: "1x", '
                "name can't start with a number or contain symbols"
            ),
        ),  # FROM-2
        (
            "FROM a AS $x",
            (
                'invalid name for build stage: "$x", '
                "name can't start with a number or contain symbols"
            ),
        ),
        ("SHELL /bin/bash -c", "SHELL requires the arguments to be in JSON form"),  # E47
        ("SHELL []", "SHELL requires at least one argument"),  # FRM-6
        ("SHELL", "SHELL requires at least one argument"),
        ("RUN []", "RUN requires at least one argument"),
        ('VOLUME ["/a", ""]', "VOLUME specified can not be an empty string"),  # E48
        ('VOLUME ["/a", "  "]', "VOLUME specified can not be an empty string"),
        (
            "COPY a",
            (
                "COPY requires at least two arguments, but only one was provided. "
                "Destination could not be determined"
            ),
        ),  # CP-1
        (
            'ADD ["a"]',
            (
                "ADD requires at least two arguments, but only one was provided. "
                "Destination could not be determined"
            ),
        ),
        ("COPY a <<EOF\nEOF", "COPY cannot accept a heredoc as a destination"),  # HD-7
        (
            "COPY << EOF /x\nEOF",
            'COPY needs the heredoc "EOF" written as one word, without spaces',
        ),
        ("RUN --network=x a", 'invalid network mode "x"'),  # RUN-5
        ("RUN --security=x a", 'security "x" is not valid'),  # RUN-6
        ("COPY --link=x a b", "expecting boolean value for flag --link, not: x"),  # FLG-3
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY --chown a b", "missing a value on flag: --chown"),  # FLG-4
        ("COPY --chown=a --chown=b x y", "duplicate flag specified: --chown"),  # E17
        ("COPY --link --link x y", "duplicate flag specified: --link"),
        ("RUN --network=none --network=none x", "duplicate flag specified: --network"),
        ("RUN --mont=type=x a", "unknown flag: --mont (did you mean mount?)"),
        ("RUN --MOUNT=type=x a", "unknown flag: --MOUNT"),
        ("ADD --parents a b", "unknown flag: --parents"),
        ("ADD --from=x a b", "unknown flag: --from"),
        ("FROM --platfrom=x a", "unknown flag: --platfrom (did you mean platform?)"),
        ("WORKDIR --x /a", "unknown flag: --x"),  # FLG-5
        ("ENV --x a=b", "unknown flag: --x"),
        ("CMD --x a", "unknown flag: --x"),
        ("ONBUILD --x RUN a", "unknown flag: --x"),  # FLG-6
        ("ONBUILD RUN --x a", "unknown flag: --x"),
        ("HEALTHCHECK FOO x", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),  # HC-2
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        (
            "HEALTHCHECK --interval=500us CMD x",
            'Interval "interval" cannot be less than 1ms',
        ),  # E52
        ("HEALTHCHECK --timeout=-1s CMD x", 'Interval "timeout" cannot be less than 1ms'),
        ("HEALTHCHECK --timeout=5 CMD x", 'time: missing unit in duration "5"'),
        ("HEALTHCHECK --timeout=5x CMD x", 'time: unknown unit "x" in duration "5x"'),
        ("HEALTHCHECK --timeout=x CMD x", 'time: invalid duration "x"'),
        ("HEALTHCHECK --timeout=1s. CMD x", 'time: invalid duration "1s."'),
        ("HEALTHCHECK --timeout=99999999h CMD x", 'time: invalid duration "99999999h"'),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --retries=x CMD x", '--retries is not a number that fits: "x"'),
        (
            "ONBUILD ONBUILD RUN x",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),  # OB-1
        ("ONBUILD from a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("ONBUILD FOO a", "unknown instruction: FOO (did you mean FROM?)"),
        ("ONBUILD COPY a", "COPY requires at least two arguments, but only one was provided."),
    ],
)
def test_complaints(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        one(text)
    shown = caught.value.message.removeprefix("dockerfile parse error on line 2: ")
    assert shown == message or (message.endswith("provided.") and shown.startswith(message))


def test_stray_flags_of_arg_and_stopsignal_are_ignored() -> None:
    """[FLG-5, E18]"""
    stop = one("STOPSIGNAL --x=1 SIGTERM")
    assert isinstance(stop, ast.StopSignal) and (stop.signal, stop.flags) == ("SIGTERM", ())
    assert one("ARG --x a").flags == ()
    assert one("HEALTHCHECK --x NONE").flags == ()


def test_flags_end_at_the_first_other_word() -> None:
    """[FLG-1, FLG-2]"""
    item = one('COPY --chown="a b":c --link -- --from=x d')
    assert isinstance(item, ast.Copy)
    assert (item.flag("chown"), item.flag_bool("link")) == ("a b:c", True)
    assert (item.sources, item.dest) == (("--from=x",), "d")
    run = one("RUN --mount=a --mount='b c' ls --mount=d")
    assert run.flag_list("mount") == ("a", "b c")


@pytest.mark.parametrize(
    ("text", "sources", "dest"),
    [
        ('COPY ["my file", "/d e/"]', ("my file",), "/d e/"),  # E35
        ('COPY "my file" /d/', ('"my', 'file"'), "/d/"),  # E36: expansion will complain
        ("ADD a b\tc", ("a", "b"), "c"),
        ("COPY [a b", ("[a",), "b"),
    ],
)
def test_words_are_split_blindly(text: str, sources: tuple[str, ...], dest: str) -> None:
    """[FRM-7]"""
    item = one(text)
    assert isinstance(item, ast.Transfer)
    assert (item.sources, item.dest) == (sources, dest)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN <<EOF\nx\nEOF", [("EOF", "x\n", True, False, "")]),
        ("RUN <<'EOF'\nx\nEOF", [("EOF", "x\n", False, False, "")]),
        ('RUN <<"E"OF\nx\nEOF', [("EOF", "x\n", False, False, "")]),  # HD-5
        ("RUN <<-EOF\n\tx\n\t\tEOF", [("EOF", "\tx\n", True, True, "")]),  # HD-3
        ("RUN 3<<EOF\nEOF", [("EOF", "", True, False, "3")]),
        (
            "RUN <<A cat <<B\na\nA\nb\nB",
            [("A", "a\n", True, False, ""), ("B", "b\n", True, False, "")],
        ),
        ("RUN <<X <<Y\nY\nX\nX\nY", [("X", "Y\n", True, False, ""), ("Y", "X\n", True, False, "")]),
        ("RUN <<eo\\'f\nx\neo'f", [("eo'f", "x\n", True, False, "")]),
        ("RUN <<'one two'\nx\none two", [("one two", "x\n", False, False, "")]),
        ("RUN <<$EOF\n$EOF", [("$EOF", "", True, False, "")]),
        ("RUN <<  EOF  > f\nEOF", [("EOF", "", True, False, "")]),
        ("RUN <<EOF\n# a\n\nb \\\nEOF", [("EOF", "# a\n\nb \\\n", True, False, "")]),  # HD-4
        ("RUN <<EOF\r\nx\r\nEOF\r\n", [("EOF", "x\r\n", True, False, "")]),
        ("RUN a \\\n <<EOF \\\n b\nx\nEOF", [("EOF", "x\n", True, False, "")]),
        ("RUN <<<EOF", []),  # HD-2
        ('RUN "<<EOF"', []),
        ("RUN '<<EOF'", []),
        ("RUN \\<<EOF", []),
        ("RUN <<", []),
        ("RUN cat <<-", []),
        ("RUN <<- EOF", []),
        ("RUN it's <<EOF", []),
        ('RUN ["<<EOF"]', []),  # HD-1
        ("CMD <<EOF", None),
    ],
)
def test_heredocs_are_found_as_a_shell_would(
    text: str, expected: list[tuple[str, str, bool, bool, str]] | None
) -> None:
    item = one(text)
    if expected is None:
        assert not isinstance(item, ast.Run)
        return
    assert isinstance(item, ast.Run)
    assert [(h.name, h.content, h.expand, h.chomp, h.fd) for h in item.command.heredocs] == expected


def test_heredoc_sources_stand_in_their_place() -> None:
    """[HD-6, HD-7, E155]"""
    item = one("COPY <<a plain <<-b <<a /d/\n1\na\n\t2\n\tb\n3\na\n")
    assert isinstance(item, ast.Copy)
    assert [s if isinstance(s, str) else (s.name, s.content) for s in item.sources] == [
        ("a", "1\n"),
        "plain",
        ("b", "\t2\n"),
        ("a", "3\n"),
    ]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("0s", 0),
        ("1ms", 10**6),
        ("1m30s", 90 * 10**9),
        (".5s", 5 * 10**8),
        ("+1h", 36 * 10**11),
    ],
)
def test_durations(text: str, ns: int) -> None:
    """[HC-1, E53]"""
    item = one(f"HEALTHCHECK --interval={text} --retries=3 CMD x")
    assert isinstance(item, ast.Healthcheck)
    assert (item.interval_ns, item.retries, item.timeout_ns) == (ns, 3, 0)


def test_the_rest_of_the_line_is_one_string() -> None:
    """[FRM-8, E54]"""
    user, workdir = one("USER a  b"), one("WORKDIR /a  'b'")
    assert isinstance(user, ast.User) and user.user == "a  b"
    assert isinstance(workdir, ast.Workdir) and workdir.path == "/a  'b'"


def test_exposed_ports_are_kept_as_written() -> None:
    """[EXP-P1, E49]"""
    item = one("EXPOSE 8000-8002/udp 443/TCP $P")
    assert isinstance(item, ast.Expose) and item.ports == ("8000-8002/udp", "443/TCP", "$P")


def test_a_trigger_is_stored_with_its_bodies_and_reads_back() -> None:
    """[OB-1, OB-2]"""
    item = one("ONBUILD RUN --mount=type=cache,target=/x <<A cat <<-'B'\na\nA\n\tb\n\tB\n")
    assert isinstance(item, ast.Onbuild)
    assert item.text == "RUN --mount=type=cache,target=/x <<A cat <<-'B'\na\nA\n\tb\nB"
    again = parse_instruction(item.text, item.span)
    assert again == item.trigger


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("", "onbuild trigger should be a single expression"),
        ("# x", "onbuild trigger should be a single expression"),
        ("RUN <<E\nx", "unterminated heredoc"),
        ("COPY --form=x a b", "unknown flag: --form (did you mean from?)"),
        ("RUN a\0", "NUL character in an instruction"),
    ],
)
def test_bad_triggers_of_a_base_image_point_at_its_from(text: str, message: str) -> None:
    with pytest.raises(UserError, match="^ONBUILD trigger .* of the base image: ") as caught:
        parse_instruction(text, Span("Dockerfile", 7, 7))
    assert caught.value.message.endswith(message)
    assert caught.value.spans == (Span("Dockerfile", 7, 7),)
