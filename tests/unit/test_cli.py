"""The command line: what it prints, where, and the code it ends with."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jsonschema
import pytest
import typer
import yaml

from deploy import cli
from deploy.config_cli import default_yaml, effective_yaml, overrides_of, schema_json
from stream_app.exits import (
    BrokerError,
    ConfigError,
    ConfigProblem,
    Exit,
    Fenced,
    Gap,
    ServiceExit,
    StateMustBeRebuilt,
)
from stream_app.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SECRET = "canary-90b3"  # noqa: S105 - a canary that must not be seen


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = "Callable[..., Ended]"


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.upper().startswith(("CHURNWATCH_", "KAFKA_")):
            monkeypatch.delenv(variable)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command in this process, as the installed script does."""

    def ended(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["churnwatch", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        code = stopped.value.code
        return Ended(int(code or 0), printed.out, printed.err)

    return ended


def in_a_process(*arguments: str, **environment: str) -> Ended:
    """The same in a process of its own, with stderr a pipe: for roles, which set up logging."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "deploy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | environment,
    )
    return Ended(ran.returncode, ran.stdout, ran.stderr)


def test_version_prints_the_release(run: Callable[..., Ended]) -> None:
    """The version is that of the distribution."""
    assert run("--version") == (0, f"churnwatch {version('churnwatch')}\n", "")


def test_help_says_what_it_does_how_to_begin_and_how_it_ends(run: Callable[..., Ended]) -> None:
    """The first screen has the first commands, the variables and the exit codes."""
    ended = run("--help")
    assert ended.code == 0
    for word in (
        "churnwatch kafka start",
        "churnwatch topics apply",
        "KAFKA_BOOTSTRAP",
        "CHURNWATCH_CONFIG",
        "Exit codes",
    ):
        assert word in ended.out


def test_the_help_of_a_worker_names_each_options_variable(run: Callable[..., Ended]) -> None:
    """Each option says which variable it overrides."""
    out = run("worker", "--help").out
    for variable in ("KAFKA_BOOTSTRAP", "CHURNWATCH_APP_ID", "CHURNWATCH_DATA_DIR", "CHURNWATCH_INSTANCE_ID"):
        assert variable in out


@pytest.mark.parametrize("arguments", [("nonsense",), ("worker", "--nonsense"), ("config", "check", "--set", "x")])
def test_a_wrong_command_line_ends_with_2(run: Callable[..., Ended], arguments: tuple[str, ...]) -> None:
    """A command line that cannot be understood is a matter of configuration."""
    assert run(*arguments).code == Exit.CONFIGURATION


ENDS: list[tuple[ServiceExit, int]] = [
    (ConfigError([ConfigProblem("k", "K", "is wrong", "mend it")]), 2),
    (BrokerError("no broker", "start it"), 3),
    (StateMustBeRebuilt("contradiction", "churnwatch rebuild"), 4),
    (Fenced("fenced"), 5),
    (Gap("a gap"), 5),
    (ServiceExit(Exit.OTHER, "something else"), 1),
]


@pytest.mark.parametrize(("error", "code"), ENDS, ids=lambda value: type(value).__name__)
def test_a_known_error_is_one_line_and_its_code(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Ended], error: ServiceExit, code: int
) -> None:
    """Each kind of known error ends a tool with its own code, one line that has the mend, and no traceback."""

    def failing() -> None:
        raise error

    failing_app = typer.Typer()
    failing_app.command()(failing)
    monkeypatch.setattr(cli, "app", failing_app)
    assert run() == (code, "", f"error: {error}\n")


def test_check_lists_every_problem(tmp_path: Path, run: Callable[..., Ended]) -> None:
    """Everything wrong is listed, a line each, and the code is 2."""
    config = tmp_path / "c.yaml"
    config.write_text("session_timeout: 1\nnonsense: 2\n", encoding="utf-8")
    ended = run("config", "check", "--config", str(config), "--set", "clock=sundial")
    assert (ended.code, ended.out) == (2, "")
    lines = ended.err.splitlines()
    assert lines[0] == "3 problems in the configuration:"
    assert [line.split()[1].rstrip(":") for line in lines[1:]] == ["session_timeout", "clock", "nonsense"]


def test_check_reads_the_files_of_rates_and_benchmarks(tmp_path: Path, run: Callable[..., Ended]) -> None:
    """A worker would not start with such rates, nor a report be made with such benchmarks: the check says so of both."""
    files = [f"{key}={tmp_path / 'none'}" for key in ("revenue.rates_file", "kpi.benchmarks_file")]
    ended = run("config", "check", "--set", "revenue.reporting_currency=USD", "--set", files[0], "--set", files[1])
    assert (ended.code, ended.out) == (2, "")
    assert [line.split()[1] for line in ended.err.splitlines()[1:]] == ["revenue.rates_file", "kpi.benchmarks_file"]


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("revenue.reporting_currency=EURO", "'EURO' cannot be used: it must be three capital letters, as in USD"),
        ("feedback.default_language=english!", "'english!' cannot be used: it must be a tag of a language, as in en"),
        ("app_id=a b", "'a b' cannot be used: it must be letters, digits"),
        ("portfolio.segments=smb", "'smb' cannot be used: it must be a list"),
    ],
)
def test_check_says_what_a_value_must_be(run: Callable[..., Ended], assignment: str, told: str) -> None:
    """Its own rule, not that of names, and in the words of the file."""
    ended = run("config", "check", "--set", assignment)
    assert ended.code == 2
    assert told in ended.err


def test_check_says_that_a_good_configuration_is_good(run: Callable[..., Ended]) -> None:
    """With nothing set the configuration can be used."""
    ended = run("config", "check")
    assert (ended.code, ended.err) == (0, "")
    assert Settings().config_version in ended.out


def test_check_reads_the_files_that_security_needs(tmp_path: Path, run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is not there is found by the check, not by the worker."""
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("KAFKA_SSL_CAFILE", str(tmp_path / "none.pem"))
    ended = run("config", "check")
    assert ended.code == 2
    assert "KAFKA_SSL_CAFILE" in ended.err


def test_show_prints_what_is_in_effect_and_masks_secrets(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment and command line are in it, the password is not."""
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", SECRET)
    ended = run("config", "show", "--set", "alerts.pending_for.at_risk=0")
    shown = yaml.safe_load(ended.out)
    assert SECRET not in ended.out + ended.err
    assert (shown["kafka_sasl_password"], shown["kafka_sasl_username"]) == ("***", "me")
    assert shown["alerts"]["pending_for"]["at_risk"] == "0"


def test_show_with_no_values_masked_reads_back_as_the_same(tmp_path: Path) -> None:
    """What is printed without secrets is a configuration with the same effect."""
    settings = load_settings(overrides={"health": {"coverage_min": "0.25"}, "topic_prefix": "eu"})
    path = tmp_path / "shown.yaml"
    path.write_text(effective_yaml(settings), encoding="utf-8")
    assert load_settings(path) == settings


def test_the_default_file_sets_everything_to_its_default(tmp_path: Path, run: Callable[..., Ended]) -> None:
    """The printed file loads, changes nothing, and holds every key but secrets and what depends on others."""
    ended = run("config", "default")
    path = tmp_path / "default.yaml"
    path.write_text(ended.out, encoding="utf-8")
    assert load_settings(path) == Settings()
    missing = Settings.model_fields.keys() - yaml.safe_load(ended.out).keys()
    assert missing == {"kafka_sasl_password", "kafka_ssl_key_password", "data_dir"}


def test_the_schema_accepts_the_default_file_and_refuses_a_wrong_key(run: Callable[..., Ended]) -> None:
    """Editors are told the same as the check tells."""
    schema = json.loads(run("config", "schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(default_yaml()), schema)
    for wrong in (
        {"nonsense": 1},
        {"metrics_port": -1},
        {"alerts": {"recover_for": "soon"}},
        {"kafka_sasl_password": "x"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_the_committed_schema_is_the_generated_one() -> None:
    """If this fails: churnwatch config schema > docs/config.schema.json."""
    assert (ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8") == schema_json()


def test_assignments_reach_any_setting() -> None:
    """KEY=VALUE is a path and YAML; several go together, and options are settings, too."""
    assert overrides_of(["a.b=1", "a.c=[x, y]", "d=e=f", "g="], {"h": 1, "i": None}) == {
        "a": {"b": 1, "c": ["x", "y"]},
        "d": "e=f",
        "g": None,
        "h": 1,
    }


@pytest.mark.parametrize("assignment", ["x", "=1", "a..b=1", "a=[", ".=1"])
def test_an_assignment_that_cannot_be_read_is_refused(assignment: str) -> None:
    """What is not KEY=VALUE is a wrong command line."""
    with pytest.raises(typer.BadParameter):
        overrides_of([assignment])


def test_a_worker_with_a_wrong_configuration_says_so_in_json_lines() -> None:
    """A role's errors are JSON lines like all its lines, one for each problem, and its code is 2."""
    ended = in_a_process("worker", "--clock", "sundial", CHURNWATCH_SESSION_TIMEOUT="1")
    assert (ended.code, ended.out) == (2, "")
    lines = [json.loads(line) for line in ended.err.splitlines()]
    assert [(line["level"], line["key"], line["environment"], line["exit_code"]) for line in lines] == [
        ("critical", "session_timeout", "CHURNWATCH_SESSION_TIMEOUT", 2),
        ("critical", "clock", "CHURNWATCH_CLOCK", 2),
    ]


def test_a_worker_whose_port_is_taken_ends_with_2(tmp_path: Path) -> None:
    """Before it asks the broker for anything, a worker has its port, or says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = in_a_process("worker", "--metrics-port", port, "--data-dir", str(tmp_path), "--bootstrap", "127.0.0.1:1")
    assert ended.code == 2
    last = json.loads(ended.err.splitlines()[-1])
    assert last["key"] == "metrics_port"
    assert "already in use" in last["message"]


def test_a_tool_with_a_wrong_configuration_is_one_line_and_2(run: Callable[..., Ended]) -> None:
    """A tool checks its settings before it asks the broker."""
    ended = run("state", "acct_1", "--json", "--app-id", "a/b")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: app_id (CHURNWATCH_APP_ID): 'a/b' cannot be used")
    assert len(ended.err.splitlines()) == 1


def test_a_tool_without_a_broker_ends_with_3(tmp_path: Path, run: Callable[..., Ended]) -> None:
    """No broker is what code 3 stands for."""
    assert run("kafka", "status", "--data-dir", str(tmp_path)).code == Exit.BROKER
