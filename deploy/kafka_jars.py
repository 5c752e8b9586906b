"""The pinned jars of Apache Kafka: where they come from, how they are fetched, and proof that they are the ones."""

from __future__ import annotations

import base64
import hashlib
import http
import http.client
import importlib.resources
import json
import re
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

from stream_app.exits import BrokerError, ConfigError, ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from email.message import Message

KAFKA_VERSION: Final = "4.3.1"
MAVEN_CENTRAL: Final = "https://repo.maven.apache.org/maven2"
CACHE_KEY: Final = "CHURNWATCH_CACHE_DIR"
REPOSITORY_KEY: Final = "CHURNWATCH_MAVEN_REPOSITORY"

_ATTEMPTS: Final = 5
_BACKOFF_SECONDS: Final = 0.25
_CHUNK_BYTES: Final = 1 << 16
_CONNECTIONS: Final = 4
_READ_TIMEOUT_SECONDS: Final = 30.0
_NETWORK_ERRORS: Final = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)
_TEMPORARY_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class JarError(BrokerError):
    """A jar could not be had, or is not the one the manifest pins."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the manifest; `path` is relative to a Maven repository, `size` is in bytes."""

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Return the file name without its folders."""
        return self.path.rpartition("/")[2]


def manifest() -> tuple[Jar, ...]:
    """Return the pinned jars in class-path order."""
    text = importlib.resources.files("deploy").joinpath(f"kafka-{KAFKA_VERSION}-jars.json").read_text("utf-8")
    return tuple(Jar(path=row["path"], size=row["size"], sha256=row["sha256"]) for row in json.loads(text))


@dataclass(frozen=True, slots=True)
class Repository:
    """A Maven repository: its base address, where that came from, and the credentials, which are never shown."""

    address: str
    origin: str
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, address: str, origin: str, user: str | None = None, password: str | None = None) -> Self:
        """Build one from an address; a `user:password@` inside it is moved out of sight. Raises `ConfigError`."""
        parts = urllib.parse.urlsplit(address.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            mend = f"give the base of a Maven repository, such as {MAVEN_CENTRAL}"
            raise ConfigError([ConfigProblem(REPOSITORY_KEY, REPOSITORY_KEY, "no http or https address", mend, origin)])
        if parts.username is not None:
            user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        authorization = None
        if user is not None:
            authorization = "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode("ascii")
        host = parts.netloc.rpartition("@")[2]
        shown = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        return cls(address=shown, origin=origin, authorization=authorization)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], maven_settings: Path | None = None) -> Self:
        """Choose `CHURNWATCH_MAVEN_REPOSITORY`, else the mirror in Maven's settings.xml, else Maven Central."""
        if address := environment.get(REPOSITORY_KEY):
            return cls.at(address, REPOSITORY_KEY)
        settings = maven_settings or Path("~/.m2/settings.xml").expanduser()
        if settings.is_file():
            mirror = _mirror_in(settings, environment)
            if mirror is not None:
                return cls.at(mirror.address, str(settings), mirror.user, mirror.password)
        return cls.at(MAVEN_CENTRAL, "default")

    def request(self, jar: Jar, first_byte: int) -> urllib.request.Request:
        """Build the request for a jar from `first_byte` on."""
        request = urllib.request.Request(f"{self.address}/{jar.path}")  # noqa: S310 - the scheme is checked in `at`
        request.add_header("User-Agent", "churnwatch")
        if first_byte:
            request.add_header("Range", f"bytes={first_byte}-")
        if self.authorization is not None:
            # Unredirected: a redirect to a storage host must not carry the credentials there.
            request.add_unredirected_header("Authorization", self.authorization)
        return request


@dataclass(frozen=True, slots=True)
class _Mirror:
    address: str
    user: str | None
    password: str | None = field(repr=False)


def _mirror_in(settings: Path, environment: Mapping[str, str]) -> _Mirror | None:
    """Return the mirror of Maven Central that a settings.xml names, with its server's plain credentials."""
    try:
        root = ET.parse(settings).getroot()  # noqa: S314 - the user's own Maven settings, which Maven itself trusts
    except ET.ParseError as error:
        wrong = f"not readable as XML ({error})"
        raise ConfigError([ConfigProblem(str(settings), "", wrong, f"mend it, or set {REPOSITORY_KEY}")]) from error

    def text(element: ET.Element, tag: str) -> str:
        raw = (element.findtext(f"{{*}}{tag}") or "").strip()
        return re.sub(r"\$\{env\.([^}]+)\}", lambda found: environment.get(found[1], ""), raw)

    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        if not _mirrors_central(text(mirror, "mirrorOf")) or text(mirror, "blocked") == "true":
            continue
        for server in root.iterfind("{*}servers/{*}server"):
            if text(server, "id") == text(mirror, "id") and text(server, "username"):
                return _Mirror(text(mirror, "url"), text(server, "username"), text(server, "password"))
        return _Mirror(text(mirror, "url"), None, None)
    return None


def _mirrors_central(mirror_of: str) -> bool:
    patterns = {pattern.strip() for pattern in mirror_of.split(",")}
    return "!central" not in patterns and not patterns.isdisjoint({"central", "*", "external:*"})


class Progress(Protocol):
    """What is told about a download: bytes gained, or lost when a file had to start again."""

    def __call__(self, byte_count: int, /) -> None:
        """Note that `byte_count` more bytes (fewer, when negative) are on the disk."""


def _silent(byte_count: int, /) -> None:
    """Note nothing."""


@dataclass(frozen=True, slots=True)
class JarCache:
    """A folder of verified jars, laid out as in a Maven repository."""

    folder: Path
    jars: Sequence[Jar] = field(default_factory=manifest)

    def file(self, jar: Jar) -> Path:
        """Return where a jar lies once it is verified."""
        return self.folder / jar.path

    def missing(self) -> list[Jar]:
        """Return the jars that are absent or whose content is not the pinned one (40 MB hash in about 60 ms)."""
        return [jar for jar in self.jars if not _is_pinned(self.file(jar), jar)]

    def class_path(self) -> str:
        """Return the class path in the manifest's order: a class-data archive is tied to it."""
        return ":".join(str(self.file(jar)) for jar in self.jars)

    def bytes_to_fetch(self, jars: Sequence[Jar]) -> int:
        """Return how many bytes are still to come, counting what earlier attempts left behind."""
        return sum(max(jar.size - _size(self._part(jar)), 0) for jar in jars)

    def fetch(self, repository: Repository, jars: Sequence[Jar], progress: Progress = _silent) -> None:
        """Bring the jars here, over four connections at most, resuming what was cut; raises `JarError`."""
        stopped = threading.Event()
        with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="jar") as pool:
            futures = [pool.submit(self._fetch_one, repository, jar, progress, stopped) for jar in jars]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                stopped.set()
                _cancel(futures)
                raise

    def _part(self, jar: Jar) -> Path:
        file = self.file(jar)
        return file.with_name(file.name + ".part")

    def _fetch_one(self, repository: Repository, jar: Jar, progress: Progress, stopped: threading.Event) -> None:
        part = self._part(jar)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            self._complete(repository, jar, progress, stopped)
            if not stopped.is_set():
                _verify(repository, jar, part)
                part.replace(self.file(jar))
        except OSError as error:
            message = f"{part} cannot be written: {error.strerror or error}"
            raise JarError(message, f"set {CACHE_KEY} to a folder with room for 40 MB") from error

    def _complete(self, repository: Repository, jar: Jar, progress: Progress, stopped: threading.Event) -> None:
        """Download until the part file is as long as the jar, trying again what may pass."""
        for attempt in range(1, _ATTEMPTS + 1):
            if stopped.is_set():
                return
            try:
                _download(repository, jar, self._part(jar), progress, stopped)
            except _NETWORK_ERRORS as error:
                if attempt == _ATTEMPTS or not _is_temporary(error):
                    raise _unreachable(repository, jar, error) from error
            else:
                return
            stopped.wait(_BACKOFF_SECONDS * 2 ** (attempt - 1))


def _cancel(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        future.cancel()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _is_pinned(file: Path, jar: Jar) -> bool:
    return _size(file) == jar.size and _sha256(file) == jar.sha256


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _download(repository: Repository, jar: Jar, part: Path, progress: Progress, stopped: threading.Event) -> None:
    """Append to the part file what it still lacks; start it again when the server cannot continue it."""
    first_byte = _size(part)
    if first_byte >= jar.size:
        return
    request = repository.request(jar, first_byte)
    with urllib.request.urlopen(request, timeout=_READ_TIMEOUT_SECONDS) as response:  # noqa: S310 - see Repository.at
        if first_byte and not _continues(response.status, response.headers, first_byte):
            progress(-first_byte)
            first_byte = 0
        announced = _announced_size(response.headers)
        if announced is not None and announced != jar.size:
            part.unlink(missing_ok=True)
            raise _not_released(repository, jar, f"{announced} bytes", f"{jar.size} bytes")
        with part.open("ab" if first_byte else "wb") as opened:
            for chunk in _chunks(response.read, jar.size - first_byte + 1):
                opened.write(chunk)
                progress(len(chunk))
                if stopped.is_set():
                    return
    lacking = jar.size - _size(part)
    if lacking > 0:
        message = f"the connection ended {lacking} bytes early"
        raise ConnectionError(message)


def _continues(status: int, headers: Message, first_byte: int) -> bool:
    partial = int(http.HTTPStatus.PARTIAL_CONTENT)
    return status == partial and headers.get("Content-Range", "").startswith(f"bytes {first_byte}-")


def _announced_size(headers: Message) -> int | None:
    """Return the size of the whole file as the server tells it, or None when it does not."""
    told = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(told) if told.isdecimal() else None


def _chunks(read: Callable[[int], bytes], byte_limit: int) -> Iterator[bytes]:
    """Yield chunks up to a limit: a server that sends without end fills no disk."""
    while byte_limit > 0 and (chunk := read(min(_CHUNK_BYTES, byte_limit))):
        byte_limit -= len(chunk)
        yield chunk


def _is_temporary(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _TEMPORARY_STATUS
    return not isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError)


def _unreachable(repository: Repository, jar: Jar, error: Exception) -> JarError:
    if isinstance(error, urllib.error.HTTPError):
        cause = f"HTTP {error.code}"
    else:
        cause = str(getattr(error, "reason", "") or error) or type(error).__name__
    return JarError(
        f"{jar.name} could not be fetched from {repository.address}: {cause}",
        f"check the network, or set {REPOSITORY_KEY} to a Maven repository you can reach; what has come is kept",
    )


def _verify(repository: Repository, jar: Jar, part: Path) -> None:
    """Hold a complete part file against the manifest; a wrong one is removed so that the next attempt is clean."""
    size = _size(part)
    if size != jar.size:
        part.unlink()
        raise _not_released(repository, jar, f"more than {jar.size} bytes", f"{jar.size} bytes")
    digest = _sha256(part)
    if digest != jar.sha256:
        part.unlink()
        raise _not_released(repository, jar, f"SHA-256 {digest}", jar.sha256)


def _not_released(repository: Repository, jar: Jar, found: str, pinned: str) -> JarError:
    return JarError(
        f"{jar.name} from {repository.address} has {found} where the manifest pins {pinned}: it is not the released "
        "file and was thrown away",
        f"try again, or set {REPOSITORY_KEY} to another Maven repository, such as {MAVEN_CENTRAL}",
    )
