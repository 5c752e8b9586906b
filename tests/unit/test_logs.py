"""Logs: one JSON object per line, whoever speaks, and no secret in it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.logs import TEXT_MAX, JsonLines, RateLimit, Redactor, configure_logging, get_logger, is_configured

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "canary-77aa01"  # noqa: S105 - a canary that must not be seen


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream that this process logs to for one test; afterwards everything is as it was."""
    root, threads, hook = logging.root, threading.excepthook, sys.excepthook
    before = (root.handlers[:], root.level)
    written = io.StringIO()
    configure_logging("INFO", secrets=[SECRET], stream=written)
    yield written
    root.handlers[:], root.level = before
    sys.excepthook, threading.excepthook = hook, threads
    logging.captureWarnings(capture=False)


def refuse(why: str) -> None:
    """Raise a ValueError."""
    raise ValueError(why)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines that were written, each parsed."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_how_bad_who_and_what(stream: io.StringIO) -> None:
    """A line has time, level, logger and message, then what the call names."""
    get_logger("stream_app.test").info("worker started", partitions=4)
    (line,) = lines(stream)
    assert list(line) == ["time", "level", "logger", "message", "partitions"]
    assert (line["level"], line["logger"], line["message"]) == ("info", "stream_app.test", "worker started")
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-11-21T22:36:00.123456Z")
    assert is_configured()


@pytest.mark.parametrize("name", ["faust.app", "mode.services", "aiokafka.conn", "kafka.net", "asyncio", "anything"])
def test_a_library_speaks_json_too(stream: io.StringIO, name: str) -> None:
    """A stdlib logger's arguments are put into its message, and its extras become fields."""
    logging.getLogger(name).warning("%s of %d", "one", 2, extra={"data": {"tp": "usage-events-0"}, "mend": "wait"})
    (line,) = lines(stream)
    assert (line["logger"], line["message"]) == (name, "one of 2")
    assert (line["tp"], line["mend"]) == ("usage-events-0", "wait")


def test_chatty_libraries_are_heard_from_warning_on(stream: io.StringIO) -> None:
    """What aiokafka and kafka-python tell of each step is left out, unless DEBUG was asked for."""
    logging.getLogger("aiokafka.consumer").info("step")
    logging.getLogger("faust.app").info("step")
    assert [line["logger"] for line in lines(stream)] == ["faust.app"]


def test_an_exception_is_one_field(stream: io.StringIO) -> None:
    """The traceback of an exception is one text in its line, for our loggers and for others."""
    for log in (get_logger("stream_app.test"), logging.getLogger("mode")):
        try:
            refuse("boom")
        except ValueError:
            log.exception("failed")
    for line in lines(stream):
        assert line["message"] == "failed"
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith("ValueError: boom")


def test_what_nobody_catches_is_a_line(stream: io.StringIO) -> None:
    """An uncaught exception, of the main thread or another, and a warning become lines."""
    thread = threading.Thread(target=lambda: 1 / 0, name="fetcher")
    thread.start()
    thread.join()
    error = ValueError("x")
    sys.excepthook(ValueError, error, None)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("old", DeprecationWarning, "file.py", 1)
    messages = [(line["level"], line["message"]) for line in lines(stream)]
    assert messages[:2] == [
        ("critical", "uncaught exception in thread fetcher"),
        ("critical", "uncaught exception"),
    ]
    assert "DeprecationWarning: old" in messages[2][1]


def test_a_call_that_cannot_be_formatted_is_a_line() -> None:
    """Wrong arguments give one line with the template, not a traceback with the arguments."""
    written = io.StringIO()
    JsonLines(stream=written).handle(logging.LogRecord("faust", logging.ERROR, "", 0, "%s and %s", (SECRET,), None))
    (line,) = lines(written)
    assert (line["message"], line["template"]) == ("a log call could not be written", "%s and %s")


def test_a_field_cannot_take_the_place_of_ours(stream: io.StringIO) -> None:
    """A field called level stands beside the line's own level."""
    get_logger("stream_app.test").warning("m", level="info", time="never")
    (line,) = lines(stream)
    assert (line["level"], line["level_"], line["time_"]) == ("warning", "info", "never")


@given(message=st.text(), value=st.recursive(st.text() | st.floats() | st.none() | st.binary(), st.lists, max_leaves=5))
def test_any_text_is_one_line_of_printable_ascii(message: str, value: object) -> None:
    """Whatever is logged, the line is one JSON object, and nothing in it moves a cursor or turns text around."""
    written = io.StringIO()
    handler = JsonLines(stream=written)
    record = logging.LogRecord("stream_app", logging.INFO, "", 0, "%s", (message,), None)
    record.data = {"value": value}
    handler.handle(record)
    text = written.getvalue()
    assert text.endswith("\n")
    assert all(" " <= character <= "~" for character in text[:-1])
    assert json.loads(text)["level"] == "info"


@given(st.text())
def test_any_text_survives_as_it_is(text: str) -> None:
    """A text without secrets comes back from the line unchanged, up to the length that is kept."""
    if len(text) <= TEXT_MAX and Redactor().text(text) == text:
        written = io.StringIO()
        record = logging.LogRecord("stream_app", logging.INFO, "", 0, "m", (), None)
        record.data = {"value": text}
        JsonLines(stream=written).handle(record)
        assert json.loads(written.getvalue())["value"] == text


def test_a_long_text_keeps_both_ends() -> None:
    """Of a text that is too long the beginning and the end are kept."""
    kept = Redactor().text("begin" + "x" * 10 * TEXT_MAX + "end")
    assert kept.startswith("begin")
    assert kept.endswith("end")
    assert len(kept) < TEXT_MAX + 100


@pytest.mark.parametrize(
    "text",
    [
        "POST https://hooks.slack.com/services/T0001/B0001/canary-secret failed",
        "token xoxb-1234-canary-secret",
        "{'Authorization': 'Bearer canary-secret'}",
        "Authorization: Basic canary-secret",
        '{"authorization": "canary-secret"}',
        "sasl_plain_password='canary-secret', x=1",
        "password = canary-secret",
        'password="two words canary-secret"',
        "api_key: canary-secret",
        "https://me:canary-secret@broker.example/x",
        "kafka://me:canary-secret@broker:9092",
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    """A webhook's address, a token, a password or an authorization header does not get through."""
    assert "canary-secret" not in Redactor().text(text)
    assert "***" in Redactor().text(text)


def test_a_known_secret_is_masked_wherever_it_is(stream: io.StringIO) -> None:
    """A secret of the settings is masked in messages, fields, keys and tracebacks."""
    log = get_logger("stream_app.test")
    try:
        refuse(f"refused {SECRET}")
    except ValueError:
        log.exception("with %s", SECRET, a={SECRET: [f"x{SECRET}x"]}, b=SECRET.encode())
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count("***") == 5


def test_a_field_named_like_a_secret_is_masked_whatever_it_holds(stream: io.StringIO) -> None:
    """The value of a field called password or token is masked, deep inside too."""
    get_logger("stream_app.test").info("m", sasl_password="abc", deep=[{"api_token": "abc"}], tokenless=None)  # noqa: S106
    (line,) = lines(stream)
    assert (line["sasl_password"], line["deep"], line["tokenless"]) == ("***", [{"api_token": "***"}], None)


def test_masking_is_fast_on_hostile_text() -> None:
    """No pattern takes long on a text made for it."""
    for text in ("a." * TEXT_MAX, "password" * TEXT_MAX, "://" * TEXT_MAX, '"' * TEXT_MAX, "authorization:" * TEXT_MAX):
        Redactor().text(text)


# -- the rate limit


def test_like_lines_are_written_twice_a_second_and_the_rest_is_counted() -> None:
    """Of a thousand like lines in a second two are written; the next second's first says how many were not."""
    limit = RateLimit()
    admitted = [limit.judge("aiokafka.conn", "cannot connect to %s", i / 1000).admitted for i in range(1000)]
    assert sum(admitted) == 2
    verdict = limit.judge("aiokafka.conn", "cannot connect to %s", 1.0)
    assert (verdict.admitted, verdict.suppressed) == (True, 998)
    assert not limit.judge("aiokafka.conn", "cannot connect to %s", 1.1).suppressed


def test_templates_and_loggers_have_limits_of_their_own() -> None:
    """A flood of one template does not silence another, but a logger has a limit, too."""
    limit = RateLimit()
    for _ in range(10):
        limit.judge("aiokafka.conn", "a", 0.0)
    assert limit.judge("aiokafka.conn", "b", 0.0).admitted
    assert limit.judge("aiokafka.client", "a", 0.0).admitted
    many = [limit.judge("faust", f"each its own {i}", 0.0).admitted for i in range(100)]
    assert sum(many) == 20


def test_what_was_left_out_is_told_when_the_flood_is_over() -> None:
    """Lines left out are reported once, a second after their window, though none like them follows."""
    limit = RateLimit()
    for _ in range(5):
        limit.judge("aiokafka.conn", "a", 0.0)
    assert list(limit.over(1.9)) == []
    assert list(limit.over(2.0)) == [("aiokafka.conn", "a", 3)]
    assert list(limit.over(3.0)) == []


def test_a_long_flood_is_told_of_ever_more_seldom() -> None:
    """In ten minutes of a hundred errors a second no more than some dozens are written, and every one is counted."""
    limit = RateLimit()
    written = suppressed = 0
    for tick in range(60_000):
        verdict = limit.judge("aiokafka.conn", "a", tick / 100)
        written += verdict.admitted
        suppressed += verdict.suppressed
    suppressed += sum(count for _, _, count in limit.over(10_000.0))
    assert written < 60
    assert written + suppressed == 60_000
    assert limit.judge("aiokafka.conn", "a", 20_000.0).admitted


def test_the_limit_remembers_only_so_many_templates() -> None:
    """A logger that never repeats itself does not fill the memory."""
    limit = RateLimit(keys_max=10)
    for i in range(1000):
        limit.judge("faust", f"template {i}", float(i))
    assert len(limit._windows) <= 10


def test_a_flood_of_a_library_is_thinned_and_ours_is_not(stream: io.StringIO) -> None:
    """With the broker down aiokafka's errors are thinned and their number told; our own lines all come."""
    for i in range(100):
        logging.getLogger("aiokafka.conn").error("connect to %s failed", i)
        logging.getLogger("stream_app.app").error("ours")
    assert sum(line["logger"] == "stream_app.app" for line in lines(stream)) == 100
    for handler in logging.root.handlers:
        if isinstance(handler, JsonLines):
            handler.close()
    theirs = [line for line in lines(stream) if line["logger"] == "aiokafka.conn"]
    assert len(theirs) < 10
    assert sum(line.get("suppressed", 0) for line in theirs) + sum("template" not in line for line in theirs) == 100


FAUST = """
import asyncio, logging, os, signal, faust
from stream_app.logs import configure_logging, logging_config, tame, worker_options
configure_logging("INFO")
app = faust.App("logs", broker="kafka://127.0.0.1:1", web_enabled=False, logging_config=logging_config("INFO"))
async def main():
    for options in ({}, worker_options()):
        worker = faust.Worker(app, loop=asyncio.get_running_loop(), **options)
        tame(worker)
        await worker.default_on_first_start()
        worker.log.info("ready %s", options)
        logging.getLogger("aiokafka").error("no broker")
        if options:
            worker.carp("not for stderr")
            canary = "canary-" + "local"
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR2)
            await asyncio.sleep(0.1)
            print("result")
asyncio.run(main())
"""


def test_faust_leaves_logging_as_it_is() -> None:
    """Faust's worker logs JSON lines, set up by itself or left alone; signals show where threads are, and no variables."""
    ran = subprocess.run([sys.executable, "-c", FAUST], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("result\n") or '"message": "result"' in ran.stderr
    for line in ran.stderr.splitlines():
        assert json.loads(line).keys() >= {"time", "level", "logger", "message"}
    assert ran.stderr.count("no broker") == 2
    assert ran.stderr.count("ready ") == 2
    assert '"thread": "MainThread", "stack": "' in ran.stderr
    assert "canary-local" not in ran.stderr
