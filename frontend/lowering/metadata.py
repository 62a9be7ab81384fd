"""Instructions that change the config and no file: history to the letter [CFG-4, KEY-8]."""

from __future__ import annotations

import re

from pybuild.frontend.lint.steps import (
    check_command_form,
    check_format,
    check_port,
    check_secret,
    check_used_once,
)
from pybuild.frontend.lowering.ports import parse_port
from pybuild.frontend.lowering.stagestate import StageState
from pybuild.frontend.syntax import ast
from pybuild.frontend.words import gotext
from pybuild.frontend.words.environment import NOT_EXPORTED
from pybuild.model.errors import UserError

_SIGNALS = frozenset(
    ("ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO")
    + ("IOT", "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS")
    + ("TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU")
    + ("XFSZ", "RTMIN", "RTMAX")
)
_REAL_TIME = frozenset([f"RTMIN+{n}" for n in range(1, 16)] + [f"RTMAX-{n}" for n in range(1, 15)])
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}\Z", re.ASCII)


def apply_metadata(state: StageState, at: ast.Instruction) -> bool:
    """Apply *at* when it is one of these instructions; return whether it was."""
    match at:
        case ast.Env():
            _env(state, at)
        case ast.Arg():
            _arg(state, at)
        case ast.Label():
            _label(state, at)
        case ast.Cmd():
            _cmd(state, at)
        case ast.Entrypoint():
            _entrypoint(state, at)
        case ast.User():
            user = state.expander(at)(at.user)
            state.image.run["User"] = user
            state.commit(f"USER {user}")
        case ast.Expose():
            _expose(state, at)
        case ast.Volume():
            _volume(state, at)
        case ast.StopSignal():
            signal = state.expander(at)(at.signal)
            check_signal(signal)
            state.image.run["StopSignal"] = signal
            state.commit(f"STOPSIGNAL {signal}")
        case ast.Shell():
            state.image.run["Shell"] = list(at.args)
            state.commit(f"SHELL {gotext.plain_list(at.args)}")
        case ast.Healthcheck():
            _healthcheck(state, at)
        case ast.Maintainer():
            state.image.top["author"] = at.author
            state.commit(f"MAINTAINER {at.author}")
        case ast.Onbuild():  # no history entry [OB-4]
            state.image.run.setdefault("OnBuild", []).append(at.text)
        case _:
            return False
    return True


def _env(state: StageState, at: ast.Env) -> None:
    check_format(at, state.scope.report)
    expand = state.expander(at)
    # All against the environment before the line [KV-6].
    pairs = [(expand(pair.key), expand(pair.value)) for pair in at.pairs]
    for name, value in pairs:
        check_secret(at, name, state.scope.report)
        state.env.set(name, value)
        state.image.set_env(name, value)
    state.commit("ENV " + " ".join(f"{name}={value}" for name, value in pairs))


def _arg(state: StageState, at: ast.Arg) -> None:
    scope = state.scope
    expand = state.expander(at)
    shown: list[str] = []
    for item in at.items:
        check_secret(at, item.name, scope.report)
        value = scope.options.build_args.get(item.name)  # verbatim [EV-13]
        if value is None:
            if item.default is not None:
                value = expand(item.default)
            else:
                value = scope.globals.get(item.name)  # unset stays unset [EV-3]
        if value is not None and item.name not in NOT_EXPORTED:
            state.env.set(item.name, value)
        state.args.append((item.name, value))
        state.declared.add(item.name)
        shown.append(item.name if value is None else f"{item.name}={value}")
    state.commit("ARG " + " ".join(shown))


def _label(state: StageState, at: ast.Label) -> None:
    check_format(at, state.scope.report)
    expand = state.expander(at)
    pairs = [(expand(pair.key), expand(pair.value)) for pair in at.pairs]
    state.image.run.setdefault("Labels", {}).update(pairs)
    state.commit("LABEL " + " ".join(f"{name}={value}" for name, value in pairs))


def _cmd(state: StageState, at: ast.Cmd) -> None:
    check_used_once(at, state.cmd_at, state.scope.report)
    state.cmd_at = at
    args = _command(state, at)
    state.image.run["Cmd"] = args
    state.image.run["ArgsEscaped"] = True
    state.commit(f"CMD {gotext.quoted_list(args)}")


def _entrypoint(state: StageState, at: ast.Entrypoint) -> None:
    check_used_once(at, state.entrypoint_at, state.scope.report)
    state.entrypoint_at = at
    args = _command(state, at)
    state.image.run["Entrypoint"] = args
    if state.cmd_at is None:  # one that came with the base does not fit the new program [EP-1]
        state.image.run.pop("Cmd", None)
    state.commit(f"ENTRYPOINT {gotext.quoted_list(args)}")


def _command(state: StageState, at: ast.Cmd | ast.Entrypoint) -> list[str]:
    has_own_shell = bool(state.image.run.get("Shell"))
    check_command_form(at, has_own_shell=has_own_shell, report=state.scope.report)
    if not at.command.is_shell:
        return list(at.command.args)
    text = " ".join(at.command.args)
    if text.startswith("["):
        from pybuild.frontend.lint.shelltext import advise_on_command  # seldom needed

        advise_on_command(at, text, state.scope.report)
    return state.image.shell_command(text)


def _expose(state: StageState, at: ast.Expose) -> None:
    ports: list[str] = []
    for word in sorted(at.ports):  # before expansion [EXP-P1]
        for text in state.split_expand(word):
            spec = parse_port(text)
            state.scope.spend(64 * len(spec.ports))
            check_port(at, text, spec, state.scope.report)
            ports += spec.ports
    state.image.add_keys("ExposedPorts", ports)
    state.commit(f"EXPOSE {gotext.plain_list(ports)}")


def _volume(state: StageState, at: ast.Volume) -> None:
    paths = [state.expander(at)(path) for path in at.paths]
    if not all(paths):
        raise UserError("VOLUME specified can not be an empty string")
    state.image.add_keys("Volumes", paths)
    state.commit(f"VOLUME {gotext.plain_list(paths)}")


def _healthcheck(state: StageState, at: ast.Healthcheck) -> None:
    check_used_once(at, state.healthcheck_at, state.scope.report)
    state.healthcheck_at = at
    test = ["NONE"]
    if at.test is not None:
        test = ["CMD-SHELL" if at.test.is_shell else "CMD", *at.test.args]
    durations = {
        "Interval": at.interval_ns,
        "Timeout": at.timeout_ns,
        "StartPeriod": at.start_period_ns,
        "StartInterval": at.start_interval_ns,
    }
    numbers = {**durations, "Retries": at.retries}
    state.image.run["Healthcheck"] = {
        "Test": test,
        **{key: value for key, value in numbers.items() if value},
    }
    shown = [f"Test:{gotext.plain_list(test)}"]
    shown += [f"{key}:{gotext.duration(value)}" for key, value in durations.items()]
    shown.append(f"Retries:{at.retries}")
    state.commit("HEALTHCHECK {" + " ".join(shown) + "}")


def check_signal(text: str) -> None:
    """Accept a number, or a name with or without ``SIG``, in any case.

    Raises:
        UserError: it is neither.
    """
    name = text.upper().removeprefix("SIG")
    known = name in _SIGNALS or name in _REAL_TIME
    if not known and not (_NUMBER.match(text) and int(text) != 0):
        raise UserError(f"invalid signal: {text}", hints=(_near_signal(name),))


def _near_signal(name: str) -> str:
    from pybuild.model.suggest import nearest

    near = nearest(name, _SIGNALS)
    return f"did you mean SIG{near}?" if near else "write SIGTERM or a number, such as 15"
