"""How to reach the broker and who we are there: one set of settings, one builder for every client that we use."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from stream_app.exits import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faust.types.auth import CredentialsT

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

ENVIRONMENT_ONLY = frozenset({"kafka_sasl_password", "kafka_ssl_key_password"})
"""Secrets: never in a file that is committed, nor on a command line that `ps` shows. Each has a `_file` beside it."""

_SERVER = re.compile(r"(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252}):(?P<port>[0-9]{1,5})")
_PORT_MAX = 65_535


class Contradictions(ValueError):  # noqa: N818 - a list of problems, which pydantic carries as one error
    """Settings that are right one by one and wrong together."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        """`problems`: at least one; they name variables, never values."""
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _join(servers: object) -> object:
    if isinstance(servers, list) and all(isinstance(item, str) for item in servers):
        return ",".join(servers)
    return servers


def _upper(word: object) -> object:
    return word.upper() if isinstance(word, str) else word


def _expand(path: object) -> object:
    return Path(path).expanduser() if isinstance(path, str) else path


_File = Annotated[Path | None, BeforeValidator(_expand)]


def _kafka(name: str, default: Any, description: str) -> Any:
    # The alias is the name itself: that keeps the prefix of the other settings off the environment name.
    return Field(default=default, validation_alias=name, description=description)


class KafkaConnection(BaseModel):
    """The broker's addresses and what security it asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka_bootstrap: Annotated[str, BeforeValidator(_join)] = _kafka(
        "kafka_bootstrap", "127.0.0.1:29092", "brokers to start from, host:port, several with commas between"
    )
    kafka_security_protocol: Annotated[SecurityProtocol, BeforeValidator(_upper)] = _kafka(
        "kafka_security_protocol",
        "PLAINTEXT",
        "PLAINTEXT, SSL, SASL_SSL, or SASL_PLAINTEXT (the password protected by the mechanism at most)",
    )
    kafka_sasl_mechanism: Annotated[SaslMechanism | None, BeforeValidator(_upper)] = _kafka(
        "kafka_sasl_mechanism", None, "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; needed with SASL_SSL and SASL_PLAINTEXT"
    )
    kafka_sasl_username: str | None = _kafka("kafka_sasl_username", None, "who we are to the broker")
    kafka_sasl_password: SecretStr | None = _kafka(
        "kafka_sasl_password", None, "its password; from the environment only, better from a file"
    )
    kafka_sasl_password_file: _File = _kafka("kafka_sasl_password_file", None, "a file that holds that password and nothing else")
    kafka_ssl_cafile: _File = _kafka(
        "kafka_ssl_cafile",
        None,
        "PEM file of the authorities that may sign the brokers' certificates; null: the system's",
    )
    kafka_ssl_certfile: _File = _kafka("kafka_ssl_certfile", None, "PEM file of our certificate, when the broker asks for one")
    kafka_ssl_keyfile: _File = _kafka("kafka_ssl_keyfile", None, "PEM file of its key; null: the key is in the certificate's file")
    kafka_ssl_key_password: SecretStr | None = _kafka(
        "kafka_ssl_key_password", None, "password of that key; from the environment only, better from a file"
    )
    kafka_ssl_key_password_file: _File = _kafka(
        "kafka_ssl_key_password_file", None, "a file that holds the password of the key and nothing else"
    )

    @field_validator("kafka_bootstrap")
    @classmethod
    def _is_a_list_of_addresses(cls, servers: str) -> str:
        # The value is not repeated: people put a password before an @, and it would be in every log.
        if "@" in servers or "://" in servers:
            raise ValueError("holds a URL or credentials: write host:port only, and give credentials in KAFKA_SASL_*")
        parts = [part.strip() for part in servers.split(",")]
        for part in parts:
            found = _SERVER.fullmatch(part)
            if found is None or not 0 < int(found["port"]) <= _PORT_MAX:
                raise ValueError(f"{part!r} is not host:port, a name or an IPv4 address and a port from 1 to {_PORT_MAX}")
        return ",".join(parts)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if problems := tuple(_contradictions(self)):
            raise Contradictions(problems)
        return self

    @property
    def kafka_servers(self) -> list[str]:
        """The brokers to start from, each `host:port`."""
        return self.kafka_bootstrap.split(",")

    @property
    def kafka_broker_urls(self) -> str:
        """The same for Faust's `broker` setting."""
        return ";".join(f"kafka://{server}" for server in self.kafka_servers)


def secret_values(connection: KafkaConnection) -> tuple[str, ...]:
    """Every secret, those in files too, for the log's filter; a file that cannot be read is left out."""
    found = [
        _password(connection.kafka_sasl_password, connection.kafka_sasl_password_file),
        _password(connection.kafka_ssl_key_password, connection.kafka_ssl_key_password_file),
    ]
    return tuple(secret for secret in found if secret)


def client_kwargs(connection: KafkaConnection) -> dict[str, Any]:
    """Keyword arguments for aiokafka's and kafka-python's clients alike: brokers, protocol, TLS context, credentials.

    Raises ConfigError, naming the variable, when a file cannot be read, is empty, or is not what it should be.
    """
    return {"bootstrap_servers": connection.kafka_servers, **_security_kwargs(connection)}


def faust_credentials(connection: KafkaConnection) -> CredentialsT | None:
    """The same for Faust's `broker_credentials`, None for PLAINTEXT; raises as `client_kwargs` does."""
    import faust  # noqa: PLC0415 - half a second to import, and only the worker needs it

    context = _tls_context(connection)
    if connection.kafka_security_protocol == "PLAINTEXT":
        return None
    if connection.kafka_security_protocol == "SSL":
        return faust.SSLCredentials(context)
    # Without a context Faust means SASL_PLAINTEXT: that is what was asked for by name, else there is a context.
    return faust.SASLCredentials(
        username=connection.kafka_sasl_username,
        password=_sasl_password(connection),
        mechanism=connection.kafka_sasl_mechanism,
        ssl_context=context,
    )


def _security_kwargs(connection: KafkaConnection) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"security_protocol": connection.kafka_security_protocol}
    if context := _tls_context(connection):
        kwargs["ssl_context"] = context
    if connection.kafka_sasl_mechanism:
        kwargs["sasl_mechanism"] = connection.kafka_sasl_mechanism
        kwargs["sasl_plain_username"] = connection.kafka_sasl_username
        kwargs["sasl_plain_password"] = _sasl_password(connection)
    return kwargs


def _tls_context(connection: KafkaConnection) -> ssl.SSLContext | None:
    if connection.kafka_security_protocol not in {"SSL", "SASL_SSL"}:
        return None
    try:
        context = ssl.create_default_context(cafile=connection.kafka_ssl_cafile)
    except OSError as error:  # an ssl.SSLError is one
        raise _unusable("kafka_ssl_cafile", f"cannot be loaded: {_why(error)}", "name a readable PEM file") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if connection.kafka_ssl_certfile:
        password = _file_or_value(connection.kafka_ssl_key_password, connection.kafka_ssl_key_password_file, "kafka_ssl_key_password_file")
        try:
            # With no password OpenSSL would ask on the terminal, and a service would hang there.
            context.load_cert_chain(connection.kafka_ssl_certfile, connection.kafka_ssl_keyfile, password or "")
        except OSError as error:
            key = "kafka_ssl_keyfile" if connection.kafka_ssl_keyfile else "kafka_ssl_certfile"
            mend = "name a certificate and its key in PEM, and the password of the key when it has one"
            raise _unusable(key, f"certificate and key cannot be loaded: {_why(error)}", mend) from error
    return context


def _sasl_password(connection: KafkaConnection) -> str | None:
    return _file_or_value(connection.kafka_sasl_password, connection.kafka_sasl_password_file, "kafka_sasl_password_file")


def _file_or_value(value: SecretStr | None, path: Path | None, key: str) -> str | None:
    """The secret; raises ConfigError naming `key` when its file cannot be read or is empty."""
    if path is None:
        return value.get_secret_value() if value else None
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(key, f"cannot be read: {_why(error)}", "name a readable file that holds the secret") from error
    if not secret:
        raise _unusable(key, "is an empty file", "write the secret into it")
    return secret


def _password(value: SecretStr | None, path: Path | None) -> str | None:
    try:
        return _file_or_value(value, path, "")
    except ConfigError:
        return None


def _why(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__


def _unusable(key: str, wrong: str, mend: str) -> ConfigError:
    return ConfigError([ConfigProblem(key, key.upper(), wrong, mend)])


def _contradictions(connection: KafkaConnection) -> Iterator[ConfigProblem]:
    yield from _sasl_contradictions(connection)
    yield from _tls_contradictions(connection)
    for key in sorted(ENVIRONMENT_ONLY):
        if getattr(connection, key) is not None and getattr(connection, f"{key}_file") is not None:
            wrong = f"is set, and so is {key.upper()}_FILE"
            yield ConfigProblem(key, key.upper(), wrong, "keep one of the two, better the file")


def _given(connection: KafkaConnection, prefix: str) -> list[str]:
    fields = KafkaConnection.model_fields
    return [key for key in fields if key.startswith(prefix) and getattr(connection, key) is not None]


def _sasl_contradictions(connection: KafkaConnection) -> Iterator[ConfigProblem]:
    protocol = connection.kafka_security_protocol
    given = _given(connection, "kafka_sasl_")
    if protocol in {"PLAINTEXT", "SSL"}:
        for key in given:
            wrong = f"is set, but KAFKA_SECURITY_PROTOCOL is {protocol}, which does not use it"
            yield ConfigProblem(key, key.upper(), wrong, "set KAFKA_SECURITY_PROTOCOL to SASL_SSL, or remove this one")
        return
    for key in ("kafka_sasl_mechanism", "kafka_sasl_username"):
        if not getattr(connection, key):
            yield ConfigProblem(key, key.upper(), f"is missing; KAFKA_SECURITY_PROTOCOL is {protocol}", "set it")
    if connection.kafka_sasl_password is None and connection.kafka_sasl_password_file is None:
        wrong = f"is missing; KAFKA_SECURITY_PROTOCOL is {protocol}"
        mend = "set it, or KAFKA_SASL_PASSWORD in the environment"
        yield ConfigProblem("kafka_sasl_password_file", "KAFKA_SASL_PASSWORD_FILE", wrong, mend)


def _tls_contradictions(connection: KafkaConnection) -> Iterator[ConfigProblem]:
    protocol = connection.kafka_security_protocol
    given = _given(connection, "kafka_ssl_")
    if protocol in {"PLAINTEXT", "SASL_PLAINTEXT"}:
        for key in given:
            wrong = f"is set, but KAFKA_SECURITY_PROTOCOL is {protocol}, which uses no TLS"
            mend = "set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, or remove this one"
            yield ConfigProblem(key, key.upper(), wrong, mend)
        return
    if connection.kafka_ssl_certfile is None:
        for key in (key for key in given if key != "kafka_ssl_cafile"):
            wrong = "is set, but KAFKA_SSL_CERTFILE is not"
            yield ConfigProblem(key, key.upper(), wrong, "set KAFKA_SSL_CERTFILE, or remove this one")
