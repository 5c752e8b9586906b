"""Every setting of the service: a YAML file, over it the environment, over it the command line; checked at start."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from alerts.rules import AlertRules
from models.feedback import Feedback
from models.kpi.rules import KpiRules
from models.ledger import RevenueRules
from models.portfolio import PortfolioRules
from models.scorecard import Scorecard
from stream_app.config_problems import ENVIRONMENT, PREFIX, Source, environment_name, nearest, nested_model, problems_of
from stream_app.exits import ConfigError, ConfigProblem
from stream_app.kafka_connection import ENVIRONMENT_ONLY, Contradictions, KafkaConnection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

CONFIG_VARIABLE = f"{PREFIX}CONFIG"

DECIDING = ("alerts", "feedback", "health", "portfolio", "revenue")
"""The settings that decide what is said of an account: `config_version` is made of them."""

OTHER_VARIABLES: dict[str, str] = {
    CONFIG_VARIABLE: "path of the configuration file; `--config` overrides it",
    f"{PREFIX}CACHE_DIR": "where the laptop's Kafka keeps its jars",
    f"{PREFIX}KAFKA_DIR": "where the laptop's Kafka keeps its data, its log and its pid",
    f"{PREFIX}MAVEN_REPOSITORY": "where the laptop's Kafka fetches its jars from",
    f"{PREFIX}FAILPOINT": "where a test makes the worker crash",
}
"""Variables with our prefix that are no settings."""

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?"
_SERVICE_LINK = re.compile(r".*_(SERVICE_(HOST|PORT(_.*)?)|PORT_[0-9]+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)=.*|.*_PORT=(tcp|udp)://.*")
"""Kubernetes gives every pod such variables for each Service of its namespace, one called churnwatch too."""

_OTHERS_KAFKA = frozenset({"KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"})
"""So common in other programs that they may be meant for one of those."""

_NEARLY_THE_SAME = 0.85


def _upper(word: object) -> object:
    return word.upper() if isinstance(word, str) else word


def _expand(path: object) -> object:
    return Path(path).expanduser() if isinstance(path, str) else path


def _data_dir(so_far: dict[str, Any]) -> Path:
    return Path("~/.local/share/churnwatch", str(so_far["app_id"])).expanduser()


class Breaker(BaseModel):
    """When so many records are unusable that the sender must be broken: the worker stops and its cursor stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consecutive: int = Field(default=1000, ge=1, description="dead letters in a row, in one partition of one topic, that stop it")
    ratio: float = Field(default=0.5, gt=0, le=1, description="share of dead letters, of the records of one checkpoint, that stops it")
    minimum: int = Field(default=200, ge=1, description="records that a checkpoint must have before its ratio counts")


class Settings(KafkaConnection, BaseSettings):
    """What one process of churnwatch runs with; made by `load_settings`, or in a test from its members alone."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    app_id: str = Field(
        default="churnwatch",
        pattern=rf"^{_NAME}$",
        max_length=100,
        description="names this installation: its consumer group, its changelog and its transactions carry it",
    )
    topic_prefix: str = Field(
        default="",
        pattern=rf"^({_NAME})?$",
        max_length=100,
        description="goes before every topic's name, <prefix>.usage-events, so that installations can share a cluster",
    )
    data_dir: Annotated[Path, BeforeValidator(_expand)] = Field(
        default_factory=_data_dir, description="where the local copy of the state is kept; one process, one directory"
    )
    instance_id: str | None = Field(
        default=None,
        pattern=rf"^{_NAME}$",
        max_length=200,
        description="static membership: the same worker under the same id (a pod's name) comes back with no rebalance",
    )
    session_timeout: float = Field(
        default=10.0,
        ge=6,
        le=300,
        description="seconds after which the broker gives a silent worker's partitions to another",
    )
    partitions: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="partitions that the account topics must have; null: as many as they have",
    )
    replication: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="replicas that topics are made with; null: as many as there are brokers, 3 at most",
    )
    standby_replicas: int = Field(default=0, ge=0, le=10, description="warm copies of each partition's state on other workers")
    clock: Literal["wall", "log"] = Field(
        default="wall",
        description="wall, or log: timers run on the time of the events, which is what a replay of history needs",
    )
    checkpoint_interval: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="seconds between the checkpoints of a partition under load; with no backlog each batch has one",
    )
    checkpoint_interval_max: float = Field(
        default=3.0,
        gt=0,
        le=60,
        description="seconds between them far behind, where one a second would write accounts again and again before they are read",
    )
    tick_interval: float = Field(
        default=1.0,
        gt=0,
        le=3600,
        description="seconds between two looks at timers: silence, expiries, waits that are over",
    )
    dirty_rows_max: int = Field(
        default=5_000,
        ge=1,
        le=1_000_000,
        description="changed accounts that a partition may gather before a checkpoint is due",
    )
    batch_records_max: int = Field(
        default=1_500,
        ge=1,
        le=100_000,
        description="records folded at a stretch; more, and heartbeats and commits wait longer",
    )
    fetch_max_wait_ms: int = Field(default=20, ge=0, le=5_000, description="milliseconds that the broker may wait for fetch_min_bytes")
    fetch_min_bytes: int = Field(default=65_536, ge=1, le=52_428_800, description="bytes that make a fetch worth answering at once")
    dead_letter_breaker: Breaker = Field(
        default_factory=Breaker,
        description="when a flood of unusable records stops the worker instead of filling dead-letters",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address that /metrics and the probes listen on; 0.0.0.0 in a container",
    )
    metrics_port: int = Field(default=9108, ge=0, le=65_535, description="port of /metrics and the probes; 0: a free one, which is logged")
    liveness_stall: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        description="seconds that a partition with a backlog may stand still before /livez says no",
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)] = Field(
        default="INFO", description="the least level that is logged"
    )
    health: Scorecard = Field(default_factory=Scorecard, description="how the health score is made")
    feedback: Feedback = Field(default_factory=Feedback, description="how text feedback is read")
    alerts: AlertRules = Field(default_factory=AlertRules, description="when a person hears of an account")
    revenue: RevenueRules = Field(default_factory=RevenueRules, description="what counts as recurring revenue, and when it is lost")
    portfolio: PortfolioRules = Field(default_factory=PortfolioRules, description="how the figures of the portfolio are cut")
    kpi: KpiRules = Field(default_factory=KpiRules, description="how a report of KPIs is made; it decides nothing that is published")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the hook's signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is made with: `load_settings` reads the sources, and can so list each error with its origin."""
        return (init_settings,)

    @cached_property
    def scoring_configuration(self) -> bytes:
        """What decides a score, an alert or a figure, as canonical JSON: equal settings, however written, give equal bytes."""
        effective = {name: _canonical(getattr(self, name).model_dump()) for name in DECIDING}
        return json.dumps(effective, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    @cached_property
    def config_version(self) -> str:
        """The SHA-256 of `scoring_configuration`, 64 hexadecimal digits: every score carries it."""
        return hashlib.sha256(self.scoring_configuration).hexdigest()


def load_settings(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of the file (`config`, else what CHURNWATCH_CONFIG names), the environment and the command line.

    `overrides` are the command line's, nested as in the file. An empty environment variable counts as not set. Raises
    ConfigError with everything that is wrong, not with the first of it.
    """
    problems = list(_unknown_variables(os.environ))
    path = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    in_file: Source = (str(path), {})
    try:
        in_file = (str(path), _read_file(path.expanduser())) if path else in_file
    except ConfigError as error:
        problems += error.problems
    on_command_line: Source = ("the command line", overrides or {})
    problems += _misplaced_secrets(in_file) + _misplaced_secrets(on_command_line)
    sources = (in_file, (ENVIRONMENT, _Environment(Settings)()), on_command_line)
    merged = _defaults_of_the_nested()
    for _, given in sources:
        merged = _merge(merged, given)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        problems += _problems(error, merged, sources)
        raise ConfigError(problems) from None  # pydantic's own text could show a value
    if problems:
        raise ConfigError(problems)
    return settings


class _Environment(EnvSettingsSource):
    """The environment; what should be JSON and is not goes on to the field's check, and hides no other error."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """JSON where a list or an object is wanted, else the text as it is."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key written twice: the last would win, and the first reader would not see it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT002
        """The mapping; raises a ConstructorError for a repeated key."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                problem = f"the key {key_node.value!r} is there twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except OSError as error:
        raise _file_error(path, f"cannot be read: {error.strerror}", "name a readable file, or none") from error
    except UnicodeDecodeError as error:
        raise _file_error(path, "is not UTF-8", "write it in UTF-8") from error
    except yaml.YAMLError as error:
        raise _file_error(path, f"is not YAML: {_yaml_fault(error)}", "mend that place") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise _file_error(
            path,
            "is not a mapping of settings",
            "write `key: value` lines; `churnwatch config default` prints them all",
        )
    return loaded


def _yaml_fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return "it cannot be parsed"


def _file_error(path: Path, wrong: str, mend: str) -> ConfigError:
    return ConfigError([ConfigProblem(str(path), CONFIG_VARIABLE, wrong, mend)])


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[ConfigProblem]:
    """Variables that look like ours and set nothing: a misspelt setting must not silently be without effect."""
    for variable in sorted(environment):
        if mend := _mend_of_unknown(variable.upper(), environment[variable]):
            yield ConfigProblem(variable, variable, "is not a setting", mend, ENVIRONMENT)


def _mend_of_unknown(name: str, value: str) -> str:
    """What to do about a variable; nothing when it is one of ours, or somebody else's business."""
    settings = {environment_name((key,)) for key in Settings.model_fields}
    known = settings | OTHER_VARIABLES.keys()
    if name in known or name in _OTHERS_KAFKA or not value:
        return ""
    if name.startswith(PREFIX):
        is_others = name.split("__", 1)[0] in _nested_variables() or _SERVICE_LINK.fullmatch(f"{name}={value}")
        return "" if is_others else nearest(name, known)
    # Others have KAFKA_ variables too, so only one that is nearly one of ours is a slip of the pen.
    near = difflib.get_close_matches(name, settings, 1, _NEARLY_THE_SAME) if name.startswith("KAFKA_") else []
    return f"did you mean {near[0]}?" if near else ""


def _nested_variables() -> set[str]:
    return {environment_name((name,)) for name, field in Settings.model_fields.items() if nested_model(field)}


def _misplaced_secrets(source: Source) -> list[ConfigProblem]:
    origin, given = source
    advice = "take it out, change it, for it has been seen, and set {}_FILE to a file with the new one"
    return [
        ConfigProblem(key, key.upper(), "is a secret, which has no place there", advice.format(key.upper()), origin)
        for key in sorted(ENVIRONMENT_ONLY & given.keys())
    ]


def _defaults_of_the_nested() -> dict[str, Any]:
    """The defaults of what holds other settings, so that one of those can be set alone."""
    models = {name: nested_model(field) for name, field in Settings.model_fields.items()}
    return {name: model().model_dump() for name, model in models.items() if model}


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `under`, member by member; a list is replaced as a whole."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _problems(error: ValidationError, merged: Mapping[str, Any], sources: Sequence[Source]) -> list[ConfigProblem]:
    found = problems_of(error, Settings, sources)
    known = set(found)
    return found + [problem for problem in _contradictions_behind(merged) if problem not in known]


def _contradictions_behind(merged: Mapping[str, Any]) -> tuple[ConfigProblem, ...]:
    """What contradicts among the broker's settings; pydantic itself only looks when nothing else is wrong."""
    mine = {key: value for key, value in merged.items() if key in KafkaConnection.model_fields}
    try:
        KafkaConnection(**mine)
    except ValidationError as error:
        causes = [details.get("ctx", {}).get("error") for details in error.errors()]
        return next((cause.problems for cause in causes if isinstance(cause, Contradictions)), ())
    return ()


def _canonical(value: Any) -> Any:
    """JSON's own types, and one spelling for each number: 40, 40.0 and 4E+1 are the same setting."""
    if isinstance(value, dict):
        return {str(key): _canonical(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(member) for member in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Decimal):
        number = Decimal(str(value))
        return int(number) if number == number.to_integral_value() else f"{number.normalize():f}"
    return str(value)
