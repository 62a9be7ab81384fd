"""Tables of commands as a parser, pages of help and completion scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.commandline import NAMES, every, find, find_words
from pybuild.commandline.completion import WordKind, completion, positions_of, value_of
from pybuild.commandline.help import overview, usage
from pybuild.commandline.parser import BadOption, Command, Parsed, parse
from pybuild.model.options import Option

OPTIONS = (
    Option("all", "all of them", short="a"),
    Option("deep", "look [deep]er: it's slow", short="d"),
    Option("mode", "fast or slow", "MODE", "m", values=("fast", "slow")),
    Option("name", "a name", "NAME", "n", True),
    Option("when", "how often: always or never", values=("always", "never")),
    Option("with-a-name-that-is-so-long", "see: it fits", "FILE"),
)


def made(name: str, shape: str, least: int, most: int, *options: Option) -> Command:
    return Command(name, f"Do {name}'s work.", f"module:{name}", options, (shape, least, most))


COMMAND = made("work", "IMAGE [CMD…]", 1, -1, *OPTIONS)


def values(*words: str) -> tuple[dict[str, list[str]], list[str]]:
    parsed = parse(words, OPTIONS)
    return parsed.values, parsed.positionals


def refused(*words: str) -> str:
    with pytest.raises(BadOption) as caught:
        parse(words, OPTIONS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "options", "positionals"),
    [
        ((), {}, []),
        (("x", "-", "y"), {}, ["x", "-", "y"]),
        (("-ad",), {"all": ["true"], "deep": ["true"]}, []),
        (("-a=false", "--deep=0"), {"all": ["false"], "deep": ["false"]}, []),
        (("-a=1", "--deep=TRUE"), {"all": ["true"], "deep": ["true"]}, []),
        (("-amfast", "x"), {"all": ["true"], "mode": ["fast"]}, ["x"]),
        (("-adn", "x", "y"), {"all": ["true"], "deep": ["true"], "name": ["x"]}, ["y"]),
        (("--when", "x"), {"when": ["true"]}, ["x"]),
        (("--when=never",), {"when": ["never"]}, []),
        (("-n=x", "-n", "=y", "-nz"), {"name": ["x", "=y", "z"]}, []),
        (("--name=", "--name", ""), {"name": ["", ""]}, []),
        (("--name", "--all"), {"name": ["--all"]}, []),
        (("--mode=a=b", "--mode", "c"), {"mode": ["c"]}, []),
        (("--mode=a=b",), {"mode": ["a=b"]}, []),
        (("x", "--", "-a", "--"), {}, ["x", "-a", "--"]),
    ],
)
def test_words_as_options(
    words: tuple[str, ...], options: dict[str, list[str]], positionals: list[str]
) -> None:
    assert values(*words) == (options, positionals)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nam=x",), "unknown flag: --nam (did you mean --name?)"),
        (("--zzz",), "unknown flag: --zzz"),
        (("-ax",), 'unknown shorthand flag: "x" in -x'),
        (("-xa",), 'unknown shorthand flag: "x" in -xa'),
        (("--when=soon",), 'invalid argument "soon" for "--when" flag: expected always, never'),
        (("--all=",), 'invalid argument "" for "--all" flag: expected a boolean'),
        (("-a=no",), 'invalid argument "no" for "-a" flag: expected a boolean'),
        (("x", "-n"), "flag needs an argument: -n"),
        (("--name",), "flag needs an argument: --name"),
    ],
)
def test_words_that_are_no_options(words: tuple[str, ...], message: str) -> None:
    assert refused(*words) == message


def test_what_was_not_given_has_a_default() -> None:
    parsed = Parsed()
    assert (parsed.flag("x"), parsed.flag("x", True)) == (False, True)
    assert (parsed.one("x"), parsed.one("x", "y"), parsed.many("x")) == ("", "y", [])
    parsed.values = {"x": ["true", "false"], "y": ["a", "b"]}
    assert (parsed.flag("x", True), parsed.one("y"), parsed.many("y")) == (False, "b", ["a", "b"])
    parsed.many("y").append("c")
    assert parsed.many("y") == ["a", "b"]


# --- tables ---------------------------------------------------------------------------------------


def test_commands_are_found_by_their_names() -> None:
    for name in NAMES:
        command = find(name)
        assert command is not None and command.name == name
        if command.target:
            module, colon, function = command.target.partition(":")
            assert module.startswith("pybuild.") and colon and function
    assert find("biuld") is None
    names = [command.name for command in every()]
    assert [name for name in names if " " not in name] == [
        "build",
        *sorted(set(NAMES) - {"build"}),
    ]
    assert names[1:] == sorted(names[1:])


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        ("images one", "images", ["one"]),
        ("image ls one", "images", ["one"]),
        ("image rm -f ls", "rmi", ["-f", "ls"]),
        ("image prune -a", "image prune", ["-a"]),
        ("image history ls", "history", ["ls"]),
        ("image --help", "image", ["--help"]),
        ("system df", "system df", []),
        ("buildx build .", "build", ["."]),
        ("buildx ls", "builder", ["ls"]),
        ("builder prune -f", "prune", ["-f"]),
        ("builder add prune tcp://x", "builder", ["add", "prune", "tcp://x"]),
    ],
)
def test_verbs_stand_for_commands(words: str, name: str, rest: list[str]) -> None:
    command, left = find_words(words.split())
    assert command is not None and (command.name, left) == (name, rest)


def test_every_verb_is_a_command() -> None:
    for command in every():
        for verb in command.verbs:
            assert find_words([command.name, verb])[0] is not None, (command.name, verb)


def test_a_verb_that_there_is_not() -> None:
    with pytest.raises(BadOption) as caught:
        find_words(["image", "lss"])
    assert str(caught.value) == 'unknown command "image lss" (did you mean ls?)'
    with pytest.raises(BadOption, match="there is df, dial-stdio, events, info, prune"):
        find_words(["system", "service"])
    assert find_words([]) == (None, [])


def test_a_page_has_a_line_for_each_option() -> None:
    assert usage(COMMAND) == (
        "usage: pybuild work [OPTIONS] IMAGE [CMD…]\n\nDo work's work.\n\noptions:\n"
        "  -a, --all                       all of them\n"
        "  -d, --deep                      look [deep]er: it's slow\n"
        "  -m, --mode MODE                 fast or slow\n"
        "  -n, --name NAME                 a name\n"
        "      --when                      how often: always or never\n"
        "      --with-a-name-that-is-so-long FILE see: it fits\n"
    )
    assert usage(made("go", "", 0, 0)).startswith("usage: pybuild go [OPTIONS]\n\n")


def test_the_first_page_has_a_line_for_each_command() -> None:
    lines = overview().splitlines()
    assert lines[0] == "usage: pybuild PATH | pybuild COMMAND [OPTIONS] …"
    assert lines[4] == "building:"
    assert lines[5].split(maxsplit=1) == ["build", "Build an image from a Dockerfile."]
    texts = {words[0]: words[-1] for line in lines if (words := line.split(maxsplit=1))}
    assert texts["du"] == "Show what the store holds and how much of it can be freed."
    columns = {
        line.index(command.help) for command in every() for line in lines if command.help in line
    }
    assert len(columns) == 1  # one column, also beside the longest names
    shown = {
        line.split("  ")[1] for line in lines[: lines.index("examples:")] if line.startswith("  ")
    }
    assert shown == {command.name for command in every()}
    assert lines[-1] == '"pybuild COMMAND --help" tells more; "pybuild ." is "pybuild build .".'


# --- completion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "most", "offers"),
    [
        ("", 0, [WordKind.NOTHING]),
        ("PATH|URL|-", 1, [WordKind.FILES, WordKind.NOTHING]),
        ("SOURCE NAME", 2, [WordKind.IMAGES, WordKind.IMAGES, WordKind.NOTHING]),
        ("NAME DIR", 2, [WordKind.IMAGES, WordKind.DIRECTORIES, WordKind.NOTHING]),
        ("FILE|URL|- [NAME]", 2, [WordKind.FILES, WordKind.IMAGES, WordKind.NOTHING]),
        ("NAME…", -1, [WordKind.IMAGES]),
        ("IMAGE [CMD…]", -1, [WordKind.IMAGES, WordKind.FILES]),
        ("[BUILD] [STEP]", 2, [WordKind.NOTHING, WordKind.NOTHING, WordKind.NOTHING]),
        ("ID|NAME", 1, [WordKind.IMAGES, WordKind.NOTHING]),
        ("[REGISTRY/]TERM", 1, [WordKind.NOTHING, WordKind.NOTHING]),
        ("bash|zsh|fish", 1, [("bash", "zsh", "fish"), WordKind.NOTHING]),
        ("prune", 1, [("prune",), WordKind.NOTHING]),
        ("add NAME | ls | rm NAME", 2, [("add", "ls", "rm"), WordKind.FILES]),
        ("mounts ls | rm ID…", -1, [("mounts",), ("ls", "rm"), WordKind.FILES]),
        ("serve | rm NAME:TAG", -1, [("serve", "rm"), WordKind.IMAGES]),
    ],
)
def test_words_that_can_stand_in_each_place(shape: str, most: int, offers: list[object]) -> None:
    assert positions_of(made("x", shape, 0, most)) == offers


@pytest.mark.parametrize(
    ("option", "offer"),
    [
        (Option("tag", "", "NAME"), WordKind.IMAGES),
        (Option("tag", "", "NAME", values=("a",)), ("a",)),
        (Option("root", "", "DIR"), WordKind.DIRECTORIES),
        (Option("x", "", "NAME"), WordKind.NOTHING),
        *((Option("x", "", word), WordKind.FILES) for word in ("CMD", "FILE", "SPEC", "URL")),
        (Option("x", "", "NAME=SRC"), WordKind.FILES),
    ],
)
def test_values_that_an_option_can_have(option: Option, offer: object) -> None:
    assert value_of(option) == offer


OTHER = made(
    "copy", "add DIR | rm", 1, 2, Option("mode", "none", "MODE"), Option("all", "everything")
)


def test_bash_has_a_case_for_each_answer() -> None:
    lines = completion("bash", (COMMAND, OTHER)).splitlines()
    assert [line.strip() for line in lines if "REPLY='" in line] == [
        "work:--mode | *:-m) REPLY='fast slow' ;;",
        "copy:--mode | *:--name | *:-n) REPLY='!nothing' ;;",
        "*:--with-a-name-that-is-so-long) REPLY='!files' ;;",
        "work) REPLY='-a --all -d --deep -m --mode -n --name --when --with-a-name-that-is-so-long' ;;",
        "copy) REPLY='--mode --all' ;;",
        "work:1) REPLY='!images' ;;",
        "copy:1) REPLY='add rm' ;;",
        "work:*) REPLY='!files' ;;",
        "copy:*) REPLY='!files' ;;",
    ]
    assert "    local commands='work copy'" in lines


def test_zsh_has_a_line_for_each_spelling() -> None:
    lines = [line.strip() for line in completion("zsh", (COMMAND, OTHER)).splitlines()]
    at = lines.index("(work) specs=(")
    assert lines[at + 1 : lines.index(") ;;", at)] == [
        "'(-a --all)-a[all of them]'",
        "'(-a --all)--all[all of them]'",
        "'(-d --deep)-d[look \\[deep\\]er\\: it'\\''s slow]'",
        "'(-d --deep)--deep[look \\[deep\\]er\\: it'\\''s slow]'",
        "'(-m --mode)-m+[fast or slow]:MODE:(fast slow)'",
        "'(-m --mode)--mode=[fast or slow]:MODE:(fast slow)'",
        "'*-n+[a name]:NAME: '",
        "'*--name=[a name]:NAME: '",
        "'(--when)--when[how often\\: always or never]'",
        (
            "'(--with-a-name-that-is-so-long)--with-a-name-that-is-so-long=[see\\: it fits]"
            ":FILE:_files'"
        ),
        "'1: :_pybuild_images'",
        "'*: :_files'",
    ]
    assert "'work:Do work'\\''s work.'" in lines
    at = lines.index("(copy) specs=(")
    assert lines[at + 1 : lines.index(") ;;", at)] == [
        "'(--mode)--mode=[none]:MODE: '",
        "'(--all)--all[everything]'",
        "'1: :(add rm)'",
        "'*: :_files'",
    ]


def test_fish_has_a_line_for_each_option_and_place() -> None:
    lines = completion("fish", (COMMAND, OTHER)).splitlines()
    start = "complete -c pybuild -n "
    assert [line.removeprefix(start) for line in lines if line.startswith(start)] == [
        "__pybuild_begins -a work -d 'Do work\\'s work.'",
        "__pybuild_begins -a copy -d 'Do copy\\'s work.'",
        "'__pybuild_is work' -l all -s a -d 'all of them'",
        "'__pybuild_is work' -l deep -s d -d 'look [deep]er: it\\'s slow'",
        "'__pybuild_is work' -l mode -s m -x -a 'fast slow' -d 'fast or slow'",
        "'__pybuild_is work' -l name -s n -x -d 'a name'",
        "'__pybuild_is work' -l when -d 'how often: always or never'",
        "'__pybuild_is work' -l with-a-name-that-is-so-long -r -F -d 'see: it fits'",
        "'__pybuild_is work; and __pybuild_at 1' -a '(__pybuild_images)'",
        "'__pybuild_is work; and __pybuild_at 2 more' -F",
        "'__pybuild_is copy' -l mode -x -d 'none'",
        "'__pybuild_is copy' -l all -d 'everything'",
        "'__pybuild_is copy; and __pybuild_at 1' -a 'add rm'",
        "'__pybuild_is copy; and __pybuild_at 2 more' -F",
    ]
    names = "-m --mode -n --name --with-a-name-that-is-so-long"
    assert f"set -g __pybuild_valued_work {names}" in lines
    assert "set -g __pybuild_valued_copy --mode" in lines
    dashed = completion("fish", (made("why-kept", "", 0, 0, *OPTIONS[2:3]),))
    assert "set -g __pybuild_valued_why_kept -m --mode\n" in dashed


# --- our own tables -------------------------------------------------------------------------------


def test_a_command_takes_as_many_words_as_its_usage_shows() -> None:
    verbs: dict[str, tuple[int, int]] = {}
    for command in every():
        shape, least, most = command.arguments
        if not command.target:
            assert command.verbs and (least, most) == (0, -1)
            continue
        if " | " in shape:
            verbs[command.name] = (least, most)
            continue
        words = shape.split()
        needed = [word for word in words if not (word[0] == "[" and word[-1] == "]")]
        assert least == len(needed), command.name
        assert most == (-1 if "…" in shape else len(words)), command.name
    assert verbs == {
        "builder": (1, 3),
        "cache": (1, -1),
        "imagetools": (1, -1),
        "registry": (1, -1),
    }


def test_options_of_which_all_values_count() -> None:
    steps = {"add-host", "dns", "dns-option", "dns-search", "file", "resource", "ulimit", "volume"}
    both = {
        "allow",
        "build-arg",
        "build-context",
        "ca",
        "cache-from",
        "label",
        "secret",
        "ssh",
    } | steps
    created = {"add-host", "env", "env-file", "label", "label-file", "log-opt", "publish"}
    created |= {"expose", "mount", "tmpfs", "ulimit", "volume", "volumes-from"}
    created |= {"dns", "dns-option", "dns-search", "network", "network-alias"}
    created |= {
        "link",
        "annotation",
        "attach",
        "build-arg",
        "cap-add",
        "cap-drop",
        "device",
        "gpus",
        "group-add",
        "security-opt",
        "sysctl",
    }
    more = {
        "allow-secret",
        "annotation",
        "annotations",
        "attest",
        "break",
        "cache",
        "cache-to",
        "max-age",
        "no-cache-filter",
        "output",
        "tag",
    }
    repeated = {
        command.name: {option.name for option in command.options if option.repeat}
        for command in every()
    }
    assert {name: options for name, options in repeated.items() if options} == {
        "bake": {"allow", "annotations", "ca", "file", "set", "var"},
        "build": both | more,
        "cluster certs": {"coordinator", "scheduler", "worker"},
        "cluster up": {"addr", "worker"},
        "commit": {"change"},
        "container prune": {"filter"},
        "create": created,
        "events": {"filter"},
        "exec": {"env", "env-file"},
        "daemon": {"addr", "allow-insecure-entitlement", "ca", "docker-address"},
        "du": {"filter"},
        "history ls": {"filter"},
        "image prune": {"filter"},
        "images": {"filter"},
        "imagetools": {"annotation", "file", "tag"},
        "import": {"change"},
        "lint": {"build-arg"},
        "lock": {"build-arg", "build-context", "ca", "file", "secret", "ssh"},
        "network connect": {"alias", "link"},
        "network create": {"aux-address", "gateway", "ip-range", "label", "opt", "subnet"},
        "network ls": {"filter"},
        "network prune": {"filter"},
        "prune": {"filter"},
        "push": {"allow-secret"},
        "ps": {"filter"},
        "registry": {"addr"},
        "run": created,
        "verify": both,
        "volume create": {"label", "opt"},
        "volume ls": {"filter"},
        "volume prune": {"filter"},
        "worker": {"addr"},
    }


def test_verify_takes_what_makes_a_build_another_one() -> None:
    build, verify = find("build"), find("verify")
    assert build is not None and verify is not None
    left_out = {option.name for option in build.options} - {o.name for o in verify.options}
    assert left_out == {
        "allow-secret", "annotation", "annotations", "attest", "break", "builder", "cache", "cache-max", "cache-to", "call", "check",
        "cluster", "compress", "creds", "explain", "fail-on-miss", "force-rm", "host", "iidfile", "load", "max-age", "metadata-file", "no-background", "no-cache-filter", "on-fail", "on-fail-container", "on-fail-output", "output",
        "provenance", "pull", "push", "rm", "runtime", "sbom", "source-policy-file", "tag", "tlscacert",
        "tlscert", "tlskey", "tlsservername",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_command_has_two_options_of_one_name(name: str) -> None:
    command = find(name)
    assert command is not None
    for names in (
        [option.name for option in command.options],
        [option.short for option in command.options if option.short],
    ):
        assert len(names) == len(set(names))
    assert [option.name for option in command.options][-4:] == ["root", "config", "debug", "help"]


def test_an_option_behind_a_group_of_commands_is_no_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of others' verbs are read only where there is a word: they cost a server's start 20 ms."""
    monkeypatch.delitem(sys.modules, "pybuild.commandline.refusals", raising=False)
    command, rest = find_words(["daemon", "--addr", "unix:///s"])
    assert command is not None
    assert (command.name, rest) == ("daemon", ["--addr", "unix:///s"])
    assert "pybuild.commandline.refusals" not in sys.modules


def test_the_shape_of_arguments_says_how_many_there_are() -> None:
    """But where words of their own follow that are commands."""
    different: list[str] = []
    for command in every():
        shape, least, most = command.arguments
        words = shape.split()
        needed = [word for word in words if word[0] + word[-1] != "[]"]
        bounds = len(needed), -1 if "…" in shape else len(words)
        if shape.startswith("VERB"):
            bounds = 0, -1
        if "|" not in words and (least, most) != bounds:
            different.append(f"{command.name}: {shape} {least} {most}, not {bounds}")
    assert different == []


def test_options_of_many_values_are_those_of_the_list(
    check_golden: Callable[[Path, str], None],
) -> None:
    lines = [
        f"{command.name}: {' '.join(option.name for option in command.options if option.repeat)}"
        for command in every()
    ]
    check_golden(Path(__file__).with_name("repeatedoptions.txt"), "\n".join(lines) + "\n")
