"""Logs: every line on stderr is one JSON object, Faust's, mode's, aiokafka's and Python's own warnings too.

Fields of every line: `time` (RFC 3339, UTC, `Z`), `level`, `logger`, `message`; then what the call names; and, where
there are any, `exception` (the traceback as one text) and `suppressed` (lines like this that were left out before it).

Nothing here keeps a secret out of a log on purpose: that is the caller's. The filter is the second net.
"""

from __future__ import annotations

import json
import logging
import logging.config
import math
import re
import sys
import threading
import traceback
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from stream_app.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

OUR_PACKAGES = ("stream_app", "alerts", "models", "deploy")
"""Their lines are never left out, and their level is the one that was asked for."""

CHATTY = ("aiokafka", "kafka", "asyncio")
"""Libraries that tell each step at INFO: from these, warnings and worse."""

TEXT_MAX = 16_384
SECRET_LENGTH_MIN = 6
"""A shorter secret would be found inside ordinary words and make the log unreadable."""

_MASK = "***"
_QUOTED_OR_WORD = r"""(?:"[^"]*"|'[^']*'|[^\s"',;&)}\]]+)"""
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[^\s\"'<>]+"), rf"\1{_MASK}"),
    (re.compile(r"\bxox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]+|\bxapp-[A-Za-z0-9-]+"), f"xox-{_MASK}"),
    (
        re.compile(rf"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic|token)\s+)?{_QUOTED_OR_WORD}"),
        rf"\1{_MASK}",
    ),
    (re.compile(rf"(?i)(\bbearer\s+){_QUOTED_OR_WORD}"), rf"\1{_MASK}"),
    (
        re.compile(rf"(?i)((?:passw(?:or)?d|passphrase|secret|token|api_?key)[\"']?\s*[:=]\s*){_QUOTED_OR_WORD}"),
        rf"\1{_MASK}",
    ),
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,256}:)[^\s/@]{1,1024}@"), rf"\1{_MASK}@"),
)
_SECRET_KEY = re.compile(r"(?i)passw|passphrase|secret|token|authorization|api_?key|credential")


@dataclass(slots=True)
class _Window:
    began: float
    seconds: float
    admitted: int = 0
    suppressed: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a line is written, and how many like it were left out since the last one that was."""

    admitted: bool
    suppressed: int = 0


class RateLimit:
    """At most so many lines in a second per logger and template, and per logger; what is left out is counted.

    With the broker down aiokafka writes hundreds of errors a second. Some of its templates hold values, hence the other
    limit. While a flood goes on, its window doubles, up to `window_max_seconds`: a long outage is not a long log.
    """

    def __init__(
        self,
        per_template: int = 2,
        per_logger: int = 20,
        window_seconds: float = 1.0,
        window_max_seconds: float = 32.0,
        keys_max: int = 512,
    ) -> None:
        """`keys_max`: (logger, template) pairs that are remembered; the oldest goes first."""
        self._per_template = per_template
        self._per_logger = per_logger
        self._window_seconds = window_seconds
        self._window_max_seconds = window_max_seconds
        self._keys_max = keys_max
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def judge(self, logger: str, template: str, now: float) -> Verdict:
        """Whether this line is written; `now` in seconds of a clock that never goes back."""
        window, carried = self._current((logger, template), now)
        whole, _ = self._current((logger, ""), now)
        if window.admitted >= self._per_template or whole.admitted >= self._per_logger:
            window.suppressed += carried + 1
            return Verdict(admitted=False)
        window.admitted += 1
        whole.admitted += 1
        return Verdict(admitted=True, suppressed=carried)

    def over(self, now: float) -> Iterator[tuple[str, str, int]]:
        """Each (logger, template, how many) of a flood that has ended, which no line has told of; and forget it."""
        for key, window in list(self._windows.items()):
            # One second more: in a flood that goes on, the next line tells.
            if now - window.began < window.seconds + self._window_seconds:
                continue
            del self._windows[key]
            if window.suppressed:
                yield (*key, window.suppressed)

    def _current(self, key: tuple[str, str], now: float) -> tuple[_Window, int]:
        """The window that `now` is in, and what its predecessor left out."""
        before = self._windows.get(key)
        if before is not None and now - before.began < before.seconds:
            return before, 0
        is_flood = before is not None and before.suppressed > 0
        seconds = min(2 * before.seconds, self._window_max_seconds) if before and is_flood else self._window_seconds
        window = self._windows[key] = _Window(now, seconds)
        self._windows.move_to_end(key)
        if len(self._windows) > self._keys_max:
            self._windows.popitem(last=False)
        return window, before.suppressed if before else 0


class Redactor:
    """Takes secrets out of texts: those it was told of, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """`secrets`: longest first, so that one which holds another goes as a whole."""
        self._known = sorted({secret for secret in secrets if len(secret) >= SECRET_LENGTH_MIN}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets, about TEXT_MAX characters of it at most."""
        for secret in self._known:
            text = text.replace(secret, _MASK)
        if len(text) > TEXT_MAX:
            # Both ends: a traceback says at its end what went wrong.
            text = f"{text[: TEXT_MAX // 2]} ... ({len(text) - TEXT_MAX} characters left out) ... {text[-TEXT_MAX // 2 :]}"
        for pattern, replacement in _SECRETS:
            text = pattern.sub(replacement, text)
        return text

    def value(self, value: object) -> object:
        """The value in JSON's own types, texts without secrets; a number that JSON cannot write becomes a text."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, dict):
            return self.fields(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(member) for member in value]
        return self.text(value if isinstance(value, str) else repr(value))

    def fields(self, fields: Mapping[Any, object]) -> dict[str, object]:
        """The same for a mapping; a member whose name says that it is a secret is masked whatever it holds."""
        return {
            self.text(str(key)): _MASK if _SECRET_KEY.search(str(key)) and value is not None else self.value(value)
            for key, value in fields.items()
        }


class JsonLines(logging.StreamHandler[TextIO]):
    """Writes records as JSON lines; those of others at WARNING or worse only as often as the limit allows."""

    def __init__(self, redactor: Redactor | None = None, stream: TextIO | None = None, limit: RateLimit | None = None) -> None:
        """`stream`: stderr, unless it says else."""
        super().__init__(stream or sys.stderr)
        self._limit = limit or RateLimit()
        self._clock = WallClock()
        self.setFormatter(_formatter(redactor or Redactor()))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless too many like it were written already."""
        now = self._clock.monotonic()
        if self._is_limited(record):
            verdict = self._limit.judge(record.name, str(record.msg), now)
            if not verdict.admitted:
                return
            if verdict.suppressed:
                record.suppressed = verdict.suppressed
        self._report_suppressed(now)
        super().emit(record)

    def close(self) -> None:
        """Say what was left out, then close."""
        self.acquire()
        try:
            self._report_suppressed(math.inf)
        finally:
            self.release()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A call that cannot be formatted is one line, too: logging would write a traceback with its arguments."""
        kind, error, _ = sys.exc_info()
        if isinstance(error, OSError) or self.stream.closed:
            return  # nobody reads stderr any more: there is no one to tell
        note = _note(record.name, logging.ERROR, "a log call could not be written", template=str(record.msg), cause=str(kind))
        self.stream.write(self.format(note) + self.terminator)

    def _report_suppressed(self, now: float) -> None:
        for logger, template, count in self._limit.over(now):
            super().emit(_note(logger, logging.WARNING, "lines like this were left out", template=template, suppressed=count))

    @staticmethod
    def _is_limited(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING and record.name.split(".", 1)[0] not in OUR_PACKAGES


def configure_logging(level: str = "INFO", secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Make everything in this process log JSON lines, to stderr unless `stream` says else.

    Call it before Faust's Worker is made: Faust logs at once.
    An exception that nobody catches, in a thread too, and Python's warnings become lines as well.
    """
    logging.config.dictConfig(logging_config(level, secrets, stream))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def is_configured() -> bool:
    """Whether lines of this process come out as JSON."""
    return any(isinstance(handler, JsonLines) for handler in logging.root.handlers)


def logging_config(level: str = "INFO", secrets: Iterable[str] = (), stream: TextIO | None = None) -> dict[str, Any]:
    """The same as a dictionary for `logging.config.dictConfig`, and for Faust's setting `logging_config`."""
    # The secrets stay inside an object: Faust keeps this dictionary among its settings, and settings get printed.
    handler = {"()": partial(JsonLines, Redactor(secrets), stream)}
    floor = "WARNING" if level in {"DEBUG", "INFO"} else level
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"json": handler},
        "root": {"level": level, "handlers": ["json"]},
        "loggers": {} if level == "DEBUG" else {name: {"level": floor} for name in CHATTY},
    }


def worker_options() -> dict[str, Any]:
    """Keyword arguments for `faust.Worker` that leave logging, stdout and stderr as `configure_logging` made them.

    Call `tame` with the worker, too.
    """
    return {"override_logging": False, "redirect_stdouts": False, "quiet": True}


def tame(worker: Any) -> None:
    """Take from a `faust.Worker` what writes past the logs; call it before the worker starts.

    Its spinner draws on stdout; on SIGUSR1 it prints the local variables of every thread, secrets and payloads among them; on
    SIGUSR2 it stops in a debugger. SIGUSR1 now logs where each thread is, with no variables, and SIGUSR2 does nothing.
    """
    worker.spinner = None
    worker._on_sigusr1 = _log_stacks
    worker._on_sigusr2 = _ignore


def _log_stacks() -> None:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    log = get_logger(__name__)
    for ident, frame in sys._current_frames().items():
        log.warning("where a thread is", thread=names.get(ident, "unknown"), stack="".join(traceback.format_stack(frame)))


def _ignore() -> None:
    """Nothing."""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes fields as keyword arguments; name it `__name__`.

    It hands everything to Python's logging, so that it is as quiet as that until `configure_logging` is called.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger


def _formatter(redactor: Redactor) -> structlog.stdlib.ProcessorFormatter:
    def shape(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        record: logging.LogRecord = event["_record"]
        fields = {key: value for key, value in event.items() if key not in {"event", "_record", "_from_structlog"}}
        shaped: dict[str, object] = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redactor.text(str(event.get("event", ""))),
        }
        fields |= _extra(record)
        # A field may not take the place of one of ours: a line that lies about its level hides itself.
        return shaped | {key if key not in shaped else f"{key}_": value for key, value in redactor.fields(fields).items()}

    return structlog.stdlib.ProcessorFormatter(
        processors=[structlog.processors.format_exc_info, shape, _render],
        # The record's own exception text is format_exc_info's business, for the records of others too.
        use_get_message=True,
    )


_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    """What a call gave with `extra`; mode gives a mapping called `data`."""
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
    data = extra.pop("data", None)
    return extra | data if isinstance(data, dict) else extra


def _note(logger: str, level: int, message: str, **fields: object) -> logging.LogRecord:
    """A line of the handler's own."""
    note = logging.LogRecord(logger, level, "", 0, message, (), None)
    note.data = fields
    return note


def _render(_: object, __: str, event: structlog.typing.EventDict) -> str:
    # ASCII only: ESC, U+2028 and the marks that turn text around come as escapes, and cannot fool who reads them.
    return json.dumps(event, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f")


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("stream_app").critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is None:
        return
    name = caught.thread.name if caught.thread else "unknown"
    error = (caught.exc_type, caught.exc_value, caught.exc_traceback)
    logging.getLogger("stream_app").critical("uncaught exception in thread %s", name, exc_info=error)
