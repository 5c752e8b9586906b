"""`churnwatch config`: see what a configuration comes to, check it, and get one to start from."""

from __future__ import annotations

import json
import textwrap
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from pydantic import BaseModel, SecretStr

from deploy.kpi.benchmarks_file import load_benchmarks
from stream_app.config_problems import element_model, environment_name, nested_model
from stream_app.exits import ConfigError, Exit
from stream_app.kafka_connection import ENVIRONMENT_ONLY, client_kwargs
from stream_app.rates import rates_of
from stream_app.settings import DECIDING, Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from stream_app.exits import ConfigProblem

WIDTH = 100
MASK = "***"
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

config_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""See, check and start a configuration.

    A setting comes from the command line, else from the environment, else from the YAML file that `--config` or
    `CHURNWATCH_CONFIG` names, else it has its default. With none of them everything has its default, and that runs.

    To begin: `churnwatch config default > churnwatch.yaml`, keep the lines that you change, then
    `churnwatch config check --config churnwatch.yaml`.
    """,
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration in YAML. [env: CHURNWATCH_CONFIG] [default: none]"),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting by its path, over the file and the environment, as often as needed: "
        "`--set alerts.pending_for.at_risk=0`. VALUE is YAML.",
    ),
]


@config_app.command()
def check(*, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Check a configuration: list everything that is wrong with it (exit code 2), or say that it can be used (0).

    The files that it names are read, too: the broker's certificate, key and password, exchange rates, benchmarks. The broker is not asked.
    """
    try:
        settings = load_settings(config, overrides_of(assignments))
        problems = _wrong_files(settings)
    except ConfigError as error:
        problems = list(error.problems)
    if problems:
        typer.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the configuration:", err=True)
        for problem in problems:
            typer.echo(f"  - {problem}", err=True)
        raise typer.Exit(Exit.CONFIGURATION)
    typer.echo(f"The configuration can be used; config_version {settings.config_version}")


def _wrong_files(settings: Settings) -> list[ConfigProblem]:
    found: list[ConfigProblem] = []
    for read in (
        lambda: client_kwargs(settings),
        lambda: rates_of(settings.revenue),
        lambda: load_benchmarks(settings.kpi.benchmarks_file),
    ):
        try:
            read()
        except ConfigError as error:
            found += error.problems
    return found


@config_app.command()
def show(*, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Print what is in effect, as YAML: file, environment and command line together, secrets masked."""
    typer.echo(effective_yaml(load_settings(config, overrides_of(assignments))), nl=False)


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors: `# yaml-language-server: $schema=config.schema.json`."""
    typer.echo(schema_json(), nl=False)


@config_app.command()
def default() -> None:
    """Print a file with every setting, its default, its environment variable and what it means."""
    typer.echo(default_yaml(), nl=False)


def overrides_of(assignments: Sequence[str] | None, options: Mapping[str, object] | None = None) -> dict[str, Any]:
    """What the command line sets, nested as in the file; `options` are settings by name, None for one not given.

    Raises typer.BadParameter for an assignment that cannot be read.
    """
    overrides: dict[str, Any] = {key: value for key, value in (options or {}).items() if value is not None}
    for assignment in assignments or ():
        path, separator, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not separator or not all(keys):
            raise typer.BadParameter(f"{path!r} is not KEY=VALUE", param_hint="--set")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"the value of {path} is not YAML", param_hint="--set") from error
        _put(overrides, keys, value)
    return overrides


def effective_yaml(settings: Settings) -> str:
    """The settings as a file; a secret that is set shows as `***`."""
    unset = {name for name in ENVIRONMENT_ONLY if getattr(settings, name) is None}
    shown = plain(settings.model_dump(exclude={*DECIDING, *unset}))
    for name in (name for name in Settings.model_fields if name in DECIDING):
        shown[name] = plain(getattr(settings, name).model_dump())
    lines = [f"# config_version: {settings.config_version}"]
    return "\n".join(lines) + "\n" + _dump(shown)


def default_yaml() -> str:
    """A file that sets everything to its default and says what it means."""
    lines = [
        "# Every setting of churnwatch with its default. Keep the lines that you change: what is left out has it.",
        "# Each can also be set in the environment, by the name in brackets, and on the command line: --set KEY=VALUE.",
        "# Check it: churnwatch config check --config FILE",
        "",
    ]
    lines += _documented(Settings, (), Settings())
    return "\n".join(lines) + "\n"


def schema_json() -> str:
    """The JSON Schema of the file. Secrets are not in it: they come from the environment."""
    made = Settings.model_json_schema()
    for name, member in made["properties"].items():
        member["description"] = f"{Settings.model_fields[name].description} [{environment_name((name,))}]"
    for name in ENVIRONMENT_ONLY:
        del made["properties"][name]
    made |= {
        "$schema": SCHEMA_DIALECT,
        "title": "Configuration of churnwatch",
        "description": "YAML; every member may be left out",
    }
    return json.dumps(made, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _put(tree: dict[str, Any], keys: Sequence[str], value: object) -> None:
    for key in keys[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            raise typer.BadParameter(f"{key} is set as a whole and in part", param_hint="--set")
        tree = branch
    tree[keys[-1]] = value


def _documented(model: type[BaseModel], path: tuple[str, ...], values: BaseModel) -> Iterator[str]:
    """The lines of a model's members, each under what it means."""
    indent = "  " * len(path)
    for name, field in model.model_fields.items():
        if name in ENVIRONMENT_ONLY:
            continue
        here = (*path, name)
        yield from _comment(field, here, indent)
        value = getattr(values, name)
        if nested_model(field):
            yield f"{indent}{name}:"
            yield from _documented(type(value), here, value)
        elif name == "data_dir":
            yield f"{indent}# data_dir: ~/.local/share/churnwatch/<app_id>"
        else:
            dumped = plain(values.model_dump(include={name}))
            yield from textwrap.indent(_dump(dumped).rstrip("\n"), indent).split("\n")
        if not path:
            yield ""


def _comment(field: FieldInfo, path: tuple[str, ...], indent: str) -> Iterator[str]:
    group = nested_model(field)
    variable = "" if group else f" [{environment_name(path)}]"
    text = (field.description or (group.__doc__ if group else "") or "").strip().rstrip(".")
    yield from textwrap.wrap(f"{text}{variable}", WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    if element := element_model(field):
        for name, member in element.model_fields.items():
            yield from textwrap.wrap(
                f"{name}: {member.description}",
                WIDTH,
                initial_indent=f"{indent}#   ",
                subsequent_indent=f"{indent}#     ",
            )


def _dump(plain: object) -> str:
    dumped: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False, width=10_000)
    return dumped


def plain(value: Any) -> Any:
    """YAML's own types; a number as it would be written by hand."""
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Path):
        return str(value)
    return value
