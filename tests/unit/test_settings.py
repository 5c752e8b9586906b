"""Settings: where they come from, what is refused, and how a refusal reads."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import pytest
from pydantic import SecretStr, ValidationError

from stream_app.exits import ConfigError, ConfigProblem, Exit
from stream_app.kafka_connection import client_kwargs, faust_credentials, secret_values
from stream_app.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "canary-5f1d0c"  # noqa: S105 - a canary that must not be seen

SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "churnwatch",
    "KAFKA_SASL_PASSWORD": SECRET,
}


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.upper().startswith(("CHURNWATCH_", "KAFKA_")):
            monkeypatch.delenv(variable)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets environment variables for the test."""

    def put(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def file(tmp_path: Path, text: str) -> Path:
    """A configuration file with this text."""
    path = tmp_path / "churnwatch.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(config: Path | None = None, overrides: dict[str, Any] | None = None) -> tuple[ConfigProblem, ...]:
    """Everything that is wrong with a configuration."""
    with pytest.raises(ConfigError) as raised:
        load_settings(config, overrides)
    assert raised.value.exit_code is Exit.CONFIGURATION
    return raised.value.problems


def only_problem(config: Path | None = None, overrides: dict[str, Any] | None = None) -> ConfigProblem:
    """The one thing that is wrong with a configuration."""
    found = problems(config, overrides)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def test_with_nothing_given_everything_has_its_default() -> None:
    """No file, variable or option is needed."""
    settings = load_settings()
    assert settings == Settings()
    assert settings.kafka_servers == ["127.0.0.1:29092"]
    assert settings.data_dir == Path("~/.local/share/churnwatch/churnwatch").expanduser()
    assert (settings.metrics_host, settings.metrics_port, settings.session_timeout) == ("127.0.0.1", 9108, 10.0)
    assert (settings.batch_records_max, settings.fetch_max_wait_ms, settings.fetch_min_bytes) == (1500, 20, 65_536)


def test_the_environment_overrides_the_file_and_the_command_line_overrides_both(
    tmp_path: Path, environment: Callable[[dict[str, str]], None]
) -> None:
    """File, environment, command line: the later wins."""
    config = file(tmp_path, "app_id: of-file\nmetrics_port: 1\ntopic_prefix: of-file\n")
    environment({"CHURNWATCH_METRICS_PORT": "2", "CHURNWATCH_TOPIC_PREFIX": "of-environment"})
    settings = load_settings(config, {"topic_prefix": "of-command-line"})
    assert (settings.app_id, settings.metrics_port, settings.topic_prefix) == ("of-file", 2, "of-command-line")


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, environment: Callable[[dict[str, str]], None]) -> None:
    """CHURNWATCH_CONFIG names the file when --config does not."""
    environment({"CHURNWATCH_CONFIG": str(file(tmp_path, "app_id: named\n"))})
    assert load_settings().app_id == "named"


def test_the_data_directory_follows_the_application_id() -> None:
    """Two installations on one machine do not share a directory by default."""
    assert load_settings(overrides={"app_id": "other"}).data_dir.name == "other"


def test_one_nested_setting_can_be_set_alone(environment: Callable[[dict[str, str]], None]) -> None:
    """What is beside it keeps its default."""
    environment({"CHURNWATCH_ALERTS__PENDING_FOR__AT_RISK": "0", "CHURNWATCH_HEALTH__COMPONENTS__USAGE__WEIGHT": "50"})
    settings, default = load_settings(), Settings()
    assert settings.alerts.pending_for.at_risk == 0
    assert settings.alerts.pending_for.critical == default.alerts.pending_for.critical
    assert settings.health.components.usage.weight == 50
    assert settings.health.components.usage.measures == default.health.components.usage.measures


def test_themes_of_feedback_can_be_set_one_by_one(tmp_path: Path, environment: Callable[[dict[str, str]], None]) -> None:
    """Each theme is a variable of its own; one that nobody knows is refused."""
    environment({"CHURNWATCH_FEEDBACK__THEMES__BUGS": '["blue screen"]', "CHURNWATCH_FEEDBACK__DEFAULT_LANGUAGE": "en"})
    settings = load_settings(file(tmp_path, "feedback: {themes: {support: [concierge]}}"))
    assert settings.feedback.themes == {"support": ("concierge",), "bugs": ("blue screen",)}
    assert settings.feedback.default_language == "en"
    problem = only_problem(overrides={"feedback": {"themes": {"weather": ["rain"]}}})
    assert (problem.key, problem.origin) == ("feedback.themes", "the command line")


def test_file_and_environment_meet_inside_a_nested_setting(tmp_path: Path, environment: Callable[[dict[str, str]], None]) -> None:
    """The environment overrides a member of a group, not the group."""
    environment({"CHURNWATCH_ALERTS__PENDING_FOR__AT_RISK": "1m"})
    settings = load_settings(file(tmp_path, "alerts: {pending_for: {critical: 2m, at_risk: 9m}}"))
    assert (settings.alerts.pending_for.at_risk, settings.alerts.pending_for.critical) == (60_000_000, 120_000_000)


def test_a_list_in_the_environment_is_json_and_replaces_the_whole(
    environment: Callable[[dict[str, str]], None],
) -> None:
    """What is no JSON is refused, and the mend says so."""
    environment({"CHURNWATCH_HEALTH__FEEDS": '["usage"]'})
    assert load_settings().health.feeds == ("usage",)
    environment({"CHURNWATCH_HEALTH__FEEDS": "usage,payment"})
    assert "write it as JSON" in only_problem().mend


def test_an_empty_variable_counts_as_not_set(environment: Callable[[dict[str, str]], None]) -> None:
    """Compose files and manifests leave variables empty."""
    environment({"CHURNWATCH_APP_ID": "", "CHURNWATCH_NO_SUCH_THING": "", "KAFKA_SASL_PASSWORD": ""})
    assert load_settings() == Settings()


def test_settings_do_not_change() -> None:
    """Settings are frozen once they are made."""
    with pytest.raises(ValidationError):
        Settings().app_id = "other"  # type: ignore[misc]


# -- what is refused


def test_everything_wrong_is_listed_at_once_with_where_it_comes_from(tmp_path: Path, environment: Callable[[dict[str, str]], None]) -> None:
    """File, environment, command line and contradictions are reported together."""
    config = file(tmp_path, "session_timeout: 1\nhealth: {bands: {at_risk: 60}}\nnonsense: 1\n")
    environment({"CHURNWATCH_CLOCK": "sundial", "CHURNWATCH_APPID": "x", "KAFKA_SSL_CAFILE": "ca.pem"})
    found = {problem.key: problem for problem in problems(config, {"metrics_port": "many"})}
    assert found.keys() == {
        "session_timeout",
        "health.bands",
        "nonsense",
        "clock",
        "CHURNWATCH_APPID",
        "kafka_ssl_cafile",
        "metrics_port",
    }
    assert found["session_timeout"].origin == str(config)
    assert found["clock"].origin == "the environment"
    assert found["metrics_port"].origin == "the command line"


def test_a_problem_names_key_variable_value_and_mend(environment: Callable[[dict[str, str]], None]) -> None:
    """One line says everything that is needed to mend it."""
    environment({"CHURNWATCH_ALERTS__RECOVER_FOR": "10"})
    problem = only_problem()
    assert (problem.key, problem.environment) == ("alerts.recover_for", "CHURNWATCH_ALERTS__RECOVER_FOR")
    assert problem.wrong.startswith("'10' cannot be used")
    assert problem.mend.endswith("or leave it out for the default, 1d")
    assert "\n" not in str(problem)


def test_a_problem_inside_a_list_is_found_by_its_index(tmp_path: Path) -> None:
    """The path goes into the list; the variable is the one that holds the list."""
    measure = "{measure: usage_pace, worst: 0, best: 1, weight: -1}"
    problem = only_problem(file(tmp_path, f"health: {{components: {{usage: {{measures: [{measure}]}}}}}}"))
    assert problem.key == "health.components.usage.measures.0.weight"
    assert problem.environment == "CHURNWATCH_HEALTH__COMPONENTS__USAGE__MEASURES"


@pytest.mark.parametrize(
    ("text", "key", "mend"),
    [
        ("metric_port: 1", "metric_port", "did you mean metrics_port?"),
        ("alerts: {pending_for: {atrisk: 0}}", "alerts.pending_for.atrisk", "did you mean at_risk?"),
        ("qqq: 1", "qqq", "remove it; known here: alerts, app_id,"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(tmp_path: Path, text: str, key: str, mend: str) -> None:
    """A misspelt key does not go unnoticed, deep inside neither."""
    problem = only_problem(file(tmp_path, text))
    assert (problem.key, problem.wrong) == (key, "is not a setting")
    assert problem.mend.startswith(mend)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CHURNWATCH_METRIC_PORT", "CHURNWATCH_METRICS_PORT"),
        ("churnwatch_appid", "CHURNWATCH_APP_ID"),
        ("KAFKA_SASL_MECHANISMS", "KAFKA_SASL_MECHANISM"),
        ("KAFKA_SECURITY_PROTOCL", "KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_nearest(
    environment: Callable[[dict[str, str]], None], variable: str, meant: str
) -> None:
    """A misspelt variable does not go unnoticed, in any case of letters."""
    environment({variable: "1"})
    problem = only_problem()
    assert (problem.key, problem.mend) == (variable, f"did you mean {meant}?")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHURNWATCH_CACHE_DIR", "cache"),
        ("CHURNWATCH_KAFKA_DIR", "kafka"),
        ("CHURNWATCH_MAVEN_REPOSITORY", "https://repository.example"),
        ("CHURNWATCH_FAILPOINT", "after_commit:1:crash"),
        ("CHURNWATCH_SERVICE_HOST", "10.0.0.1"),
        ("CHURNWATCH_SERVICE_PORT_METRICS", "9108"),
        ("CHURNWATCH_PORT", "tcp://10.0.0.1:9108"),
        ("CHURNWATCH_PORT_9108_TCP_ADDR", "10.0.0.1"),
        ("KAFKA_OPTS", "-Xmx1g"),
        ("KAFKA_HEAP_OPTS", "-Xmx1g"),
        ("KAFKA_BOOTSTRAP_SERVERS", "elsewhere:9092"),
    ],
)
def test_variables_that_are_other_peoples_business_are_let_be(
    environment: Callable[[dict[str, str]], None], variable: str, value: str
) -> None:
    """Our own tools, Kubernetes and other Kafka programs have variables, too."""
    environment({variable: value})
    assert load_settings() == Settings()


def test_a_variable_that_kubernetes_set_for_a_service_is_recognised(
    environment: Callable[[dict[str, str]], None],
) -> None:
    """A Service called churnwatch-metrics sets our port to a URL: the mend says what to do."""
    environment({"CHURNWATCH_METRICS_PORT": "tcp://10.0.0.1:9108"})
    assert "enableServiceLinks: false" in only_problem().mend


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("app_id: [", "is not YAML: line 1"),
        ("app_id: a\napp_id: b\n", "is not YAML: line 2, column 1: the key 'app_id' is there twice"),
        ("alerts: {recover_for: 1h, recover_for: 2h}", "the key 'recover_for' is there twice"),
        ("- app_id", "is not a mapping of settings"),
        ("1: x", "is not a mapping of settings"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_it_is_wrong(tmp_path: Path, text: str, wrong: str) -> None:
    """Syntax errors have line and column; YAML that would run code is refused."""
    config = file(tmp_path, text)
    problem = only_problem(config)
    assert (problem.key, problem.environment) == (str(config), "CHURNWATCH_CONFIG")
    assert wrong in problem.wrong


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    """A file of comments is a configuration."""
    assert load_settings(file(tmp_path, "# nothing\n")) == Settings()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A file that was asked for must be there."""
    assert "No such file" in only_problem(tmp_path / "none.yaml").wrong


def test_a_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    """Other encodings are refused, not guessed."""
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"app_id: \xe9\n")
    assert only_problem(path).wrong == "is not UTF-8"


@pytest.mark.parametrize("app_id", ["", "a/b", "../x", "a b", ".hidden", "ends.", "x" * 101, "a\n"])
def test_an_application_id_that_cannot_be_a_name_is_refused(app_id: str) -> None:
    """It goes into names of topics, groups and directories."""
    assert only_problem(overrides={"app_id": app_id}).key == "app_id"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("session_timeout", 5.9),
        ("session_timeout", float("nan")),
        ("metrics_port", 65_536),
        ("metrics_port", -1),
        ("checkpoint_interval", 0),
        ("liveness_stall", float("inf")),
        ("partitions", 0),
        ("batch_records_max", 0),
        ("topic_prefix", "a."),
        ("dead_letter_breaker", {"ratio": 1.1}),
    ],
)
def test_a_number_or_name_outside_its_bounds_is_refused(key: str, value: object) -> None:
    """Every number has bounds."""
    assert only_problem(overrides={key: value}).key.startswith(key)


# -- the broker


@pytest.mark.parametrize(
    "servers", ["broker", "broker:", "broker:0", "broker:70000", "a:1,,b:2", "a:1 b:2", "", "kafka://a:1", "[::1]:9092"]
)
def test_what_is_not_a_list_of_addresses_is_refused(servers: str) -> None:
    """Only host:port, with commas between."""
    assert only_problem(overrides={"kafka_bootstrap": servers}).key == "kafka_bootstrap"


def test_several_brokers_can_be_given_as_a_text_or_a_list() -> None:
    """Both come to the same servers, for Faust as URLs."""
    for given in ("a:9092, b.example:9093", ["a:9092", "b.example:9093"]):
        settings = load_settings(overrides={"kafka_bootstrap": given})
        assert settings.kafka_servers == ["a:9092", "b.example:9093"]
        assert settings.kafka_broker_urls == "kafka://a:9092;kafka://b.example:9093"


def test_an_address_with_credentials_is_refused_and_not_repeated() -> None:
    """A password in the address appears in no message."""
    problem = only_problem(overrides={"kafka_bootstrap": f"kafka://me:{SECRET}@broker:9092"})
    assert SECRET not in str(problem)
    assert "KAFKA_SASL_" in problem.wrong


CONTRADICTIONS: dict[str, tuple[dict[str, str], set[str]]] = {
    "credentials without SASL": (
        {"KAFKA_SASL_PASSWORD": SECRET, "KAFKA_SASL_USERNAME": "me"},
        {"KAFKA_SASL_PASSWORD", "KAFKA_SASL_USERNAME"},
    ),
    "credentials with SSL": ({**SASL, "KAFKA_SECURITY_PROTOCOL": "SSL"}, SASL.keys() - {"KAFKA_SECURITY_PROTOCOL"}),
    "certificates without TLS": ({"KAFKA_SSL_CAFILE": "ca.pem"}, {"KAFKA_SSL_CAFILE"}),
    "certificates with SASL_PLAINTEXT": (
        {**SASL, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CAFILE": "ca.pem"},
        {"KAFKA_SSL_CAFILE"},
    ),
    "SASL with nothing": (
        {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
        {"KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD_FILE"},
    ),
    "password twice": ({**SASL, "KAFKA_SASL_PASSWORD_FILE": "password"}, {"KAFKA_SASL_PASSWORD"}),
    "key without certificate": (
        {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEYFILE": "k", "KAFKA_SSL_KEY_PASSWORD": SECRET},
        {"KAFKA_SSL_KEYFILE", "KAFKA_SSL_KEY_PASSWORD"},
    ),
    "unknown protocol": ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, {"KAFKA_SECURITY_PROTOCOL"}),
    "unknown mechanism": ({**SASL, "KAFKA_SASL_MECHANISM": "GSSAPI"}, {"KAFKA_SASL_MECHANISM"}),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_is_refused_by_the_variables_name_and_never_its_value(
    environment: Callable[[dict[str, str]], None], case: str
) -> None:
    """No combination is guessed at."""
    variables, named = CONTRADICTIONS[case]
    environment(variables)
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert {problem.environment for problem in raised.value.problems} == named
    assert SECRET not in f"{raised.value} {raised.value!r} {raised.value.__cause__!r} {raised.value.problems!r}"


@pytest.mark.parametrize("name", ["kafka_sasl_password", "kafka_ssl_key_password"])
def test_a_secret_in_the_file_or_on_the_command_line_is_refused(tmp_path: Path, name: str) -> None:
    """Files are committed and command lines are shown by ps."""
    for found in (problems(file(tmp_path, f"{name}: {SECRET}")), problems(overrides={name: SECRET})):
        assert (found[0].key, found[0].wrong) == (name, "is a secret, which has no place there")
        assert SECRET not in str(found)


def test_a_secret_does_not_show_in_a_print_or_a_dump(environment: Callable[[dict[str, str]], None]) -> None:
    """Only the connection itself gets the secret."""
    environment(SASL)
    settings = load_settings()
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert secret_values(settings) == (SECRET,)


def test_every_client_gets_the_same_security(environment: Callable[[dict[str, str]], None]) -> None:
    """aiokafka, kafka-python and Faust get the same, with hostnames checked and TLS 1.2 or newer."""
    environment(SASL)
    settings = load_settings()
    kwargs = client_kwargs(settings)
    context = kwargs.pop("ssl_context")
    assert kwargs == {
        "bootstrap_servers": ["127.0.0.1:29092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "churnwatch",
        "sasl_plain_password": SECRET,
    }
    credentials = faust_credentials(settings)
    assert isinstance(credentials, faust.SASLCredentials)
    assert (credentials.protocol.value, credentials.password) == ("SASL_SSL", SECRET)
    for made in (context, credentials.ssl_context):
        assert (made.check_hostname, made.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert made.minimum_version == ssl.TLSVersion.TLSv1_2


def test_plaintext_has_no_credentials() -> None:
    """The default is a broker on this machine with no security."""
    assert client_kwargs(Settings()) == {
        "bootstrap_servers": ["127.0.0.1:29092"],
        "security_protocol": "PLAINTEXT",
    }
    assert faust_credentials(Settings()) is None


def test_a_password_without_tls_must_be_asked_for_by_name(environment: Callable[[dict[str, str]], None]) -> None:
    """Faust would take it silently; we only do when the protocol says so."""
    environment({**SASL, "KAFKA_SECURITY_PROTOCOL": "sasl_plaintext"})
    credentials = faust_credentials(load_settings())
    assert isinstance(credentials, faust.SASLCredentials)
    assert credentials.protocol.value == "SASL_PLAINTEXT"


def test_a_secret_can_be_a_file_whose_last_line_end_does_not_count(tmp_path: Path, environment: Callable[[dict[str, str]], None]) -> None:
    """Editors end a file with a line end."""
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n", encoding="utf-8")
    variables = {key: value for key, value in SASL.items() if key != "KAFKA_SASL_PASSWORD"}
    environment({**variables, "KAFKA_SASL_PASSWORD_FILE": str(path)})
    settings = load_settings()
    assert client_kwargs(settings)["sasl_plain_password"] == SECRET
    assert secret_values(settings) == (SECRET,)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kafka_sasl_password_file": "empty"}, "KAFKA_SASL_PASSWORD_FILE"),
        ({"kafka_sasl_password_file": "missing"}, "KAFKA_SASL_PASSWORD_FILE"),
        ({"kafka_ssl_cafile": "missing"}, "KAFKA_SSL_CAFILE"),
        ({"kafka_ssl_cafile": "junk"}, "KAFKA_SSL_CAFILE"),
        ({"kafka_ssl_certfile": "junk"}, "KAFKA_SSL_CERTFILE"),
        ({"kafka_ssl_certfile": "junk", "kafka_ssl_keyfile": "junk"}, "KAFKA_SSL_KEYFILE"),
    ],
)
def test_a_security_file_that_cannot_be_used_is_named_by_its_variable(tmp_path: Path, changes: dict[str, str], named: str) -> None:
    """Missing, empty or wrong: the variable is named."""
    (tmp_path / "empty").touch()
    (tmp_path / "junk").write_text("no certificate\n", encoding="utf-8")
    base: dict[str, Any] = {
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_sasl_username": "me",
    }
    if "kafka_sasl_password_file" not in changes:
        base["kafka_sasl_password"] = SecretStr(SECRET)
    settings = Settings(**base | {key: tmp_path / name for key, name in changes.items()})
    with pytest.raises(ConfigError) as raised:
        client_kwargs(settings)
    assert [problem.environment for problem in raised.value.problems] == [named]


# -- the version of the configuration


def test_equal_settings_have_one_version_however_they_are_written(tmp_path: Path) -> None:
    """40.0 is 40, 24h is 1d, and the application id scores nothing."""
    version = Settings().config_version
    for text in ("health: {components: {usage: {weight: 40.0}}}", "alerts: {recover_for: 24h}", "app_id: other"):
        assert load_settings(file(tmp_path, text)).config_version == version


def test_what_decides_a_score_or_an_alert_decides_the_version(tmp_path: Path) -> None:
    """Any change to a weight, a feed, a wait or a rule of revenue is another version."""
    texts = [
        "health: {components: {usage: {weight: 41}}}",
        "alerts: {recover_for: 25h}",
        "health: {feeds: [usage]}",
        "feedback: {competitors: [Acmely]}",
        "revenue: {dunning_days: 14}",
    ]
    versions = {load_settings(file(tmp_path, text)).config_version for text in texts}
    assert len(versions | {Settings().config_version}) == len(texts) + 1


def test_the_version_is_the_sha256_of_canonical_json() -> None:
    """The bytes are stable: sorted keys, no spaces, plain numbers."""
    settings = Settings()
    assert len(settings.config_version) == 64
    assert settings.scoring_configuration.startswith(b'{"alerts":{"health":{"at_risk":{"enter":50,"exit":57}')
