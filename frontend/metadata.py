"""Instructions that change the config and no file: history to the letter [CFG-4, KEY-8]."""

from __future__ import annotations

import re

from pybuild.frontend import ast, gotext
from pybuild.frontend.environment import NOT_EXPORTED
from pybuild.frontend.lint.rules import Rule
from pybuild.frontend.ports import parse_port
from pybuild.frontend.signals import check_signal
from pybuild.frontend.stagestate import StageState
from pybuild.model.errors import UserError

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)


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
            state.image.commit(f"USER {user}")
        case ast.Expose():
            _expose(state, at)
        case ast.Volume():
            _volume(state, at)
        case ast.StopSignal():
            signal = state.expander(at)(at.signal)
            check_signal(signal)
            state.image.run["StopSignal"] = signal
            state.image.commit(f"STOPSIGNAL {signal}")
        case ast.Shell():
            state.image.run["Shell"] = list(at.args)
            state.image.commit(f"SHELL {gotext.plain_list(at.args)}")
        case ast.Healthcheck():
            _healthcheck(state, at)
        case ast.Maintainer():
            state.lint(Rule.MAINTAINER_DEPRECATED, at)
            state.image.top["author"] = at.author
            state.image.commit(f"MAINTAINER {at.author}")
        case ast.Onbuild():  # no history entry [OB-4]
            state.image.run.setdefault("OnBuild", []).append(at.text)
        case _:
            return False
    return True


def _env(state: StageState, at: ast.Env) -> None:
    if at.legacy:
        state.lint(Rule.LEGACY_KEY_VALUE, at, "ENV")
    expand = state.expander(at)
    # All against the environment before the line [KV-6].
    pairs = [(expand(pair.key), expand(pair.value)) for pair in at.pairs]
    for name, value in pairs:
        _check_secret(state, at, "ENV", name)
        state.env.set(name, value)
        state.image.set_env(name, value)
    state.image.commit("ENV " + " ".join(f"{name}={value}" for name, value in pairs))


def _arg(state: StageState, at: ast.Arg) -> None:
    scope = state.scope
    expand = state.expander(at)
    shown: list[str] = []
    for item in at.items:
        _check_secret(state, at, "ARG", item.name)
        value = scope.options.build_args.get(item.name)  # verbatim [EV-13]
        if value is None:
            if item.default is not None:
                value = expand(item.default)
            else:
                value = scope.globals.get(item.name)  # unset stays unset [EV-3]
        if value is not None and item.name not in NOT_EXPORTED:
            state.env.set(item.name, value)
        state.args.append((item.name, value))
        shown.append(item.name if value is None else f"{item.name}={value}")
    state.image.commit("ARG " + " ".join(shown))


def _label(state: StageState, at: ast.Label) -> None:
    if at.legacy:
        state.lint(Rule.LEGACY_KEY_VALUE, at, "LABEL")
    expand = state.expander(at)
    pairs = [(expand(pair.key), expand(pair.value)) for pair in at.pairs]
    state.image.run.setdefault("Labels", {}).update(pairs)
    state.image.commit("LABEL " + " ".join(f"{name}={value}" for name, value in pairs))


def _cmd(state: StageState, at: ast.Cmd) -> None:
    if state.cmd_at is not None:
        state.lint(Rule.MULTIPLE_INSTRUCTIONS, state.cmd_at, "CMD")
    state.cmd_at = at
    args = _command(state, at, at.command, "CMD")
    state.image.run["Cmd"] = args
    state.image.run["ArgsEscaped"] = True
    state.image.commit(f"CMD {gotext.quoted_list(args)}")


def _entrypoint(state: StageState, at: ast.Entrypoint) -> None:
    if state.entrypoint_at is not None:
        state.lint(Rule.MULTIPLE_INSTRUCTIONS, state.entrypoint_at, "ENTRYPOINT")
    state.entrypoint_at = at
    args = _command(state, at, at.command, "ENTRYPOINT")
    state.image.run["Entrypoint"] = args
    if state.cmd_at is None:  # one that came with the base does not fit the new program [EP-1]
        state.image.run.pop("Cmd", None)
    state.image.commit(f"ENTRYPOINT {gotext.quoted_list(args)}")


def _command(
    state: StageState, at: ast.Instruction, command: ast.Command, keyword: str
) -> list[str]:
    if not command.is_shell:
        return list(command.args)
    if not state.image.run.get("Shell"):
        state.lint(Rule.JSON_ARGS_RECOMMENDED, at, keyword)
    return state.image.shell_command(" ".join(command.args))


def _expose(state: StageState, at: ast.Expose) -> None:
    ports: list[str] = []
    for word in sorted(at.ports):  # before expansion [EXP-P1]
        for text in state.split_expand(word, at):
            spec = parse_port(text)
            if spec.protocol != spec.protocol.lower():
                state.lint(Rule.EXPOSE_PROTO_CASING, at, text)
            if spec.has_host_part:
                state.lint(Rule.EXPOSE_INVALID_FORMAT, at, text)
            ports += spec.ports
    state.image.add_keys("ExposedPorts", ports)
    state.image.commit(f"EXPOSE {gotext.plain_list(ports)}")


def _volume(state: StageState, at: ast.Volume) -> None:
    paths = [state.expander(at)(path) for path in at.paths]
    if not all(paths):
        raise UserError("VOLUME specified can not be an empty string")
    state.image.add_keys("Volumes", paths)
    state.image.commit(f"VOLUME {gotext.plain_list(paths)}")


def _healthcheck(state: StageState, at: ast.Healthcheck) -> None:
    if state.healthcheck_at is not None:
        state.lint(Rule.MULTIPLE_INSTRUCTIONS, state.healthcheck_at, "HEALTHCHECK")
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
    state.image.commit("HEALTHCHECK {" + " ".join(shown) + "}")


def _check_secret(state: StageState, at: ast.Instruction, keyword: str, name: str) -> None:
    if _SECRET.search(name) and not _NO_SECRET.search(name):
        state.lint(Rule.SECRETS_IN_ARG_OR_ENV, at, keyword, name)
