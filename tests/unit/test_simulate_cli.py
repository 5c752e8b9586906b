"""`churnwatch simulate`: files that are complete, a summary, and errors that name the option."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.simulate import cli as simulate_cli
from deploy.simulate.stream import TOPICS
from deploy.simulate.world import Scope, SimulationError
from stream_app.exits import Exit

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

SMALL = ("--accounts", "12", "--months", "3", "--seed", "8", "--events-per-user-day", "0.05")


def simulate(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_files_hold_every_event_and_the_truth_and_are_the_same_again(tmp_path: Path) -> None:
    """One file of JSON lines for each topic; the numbers of the summary are those of the files, and the bytes those of the seed."""
    found = [simulate(*SMALL, "--out", str(tmp_path / name)) for name in ("one", "two")]
    assert [result.exit_code for result in found] == [0, 0]
    first, second = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert first == second
    assert set(first) == {"truth.json", *(f"{topic}.jsonl" for topic in TOPICS)}
    for topic in TOPICS:
        count = len(first[f"{topic}.jsonl"].splitlines())
        assert count
        assert f"{count:>12,}  {topic}\n" in found[0].stdout
    truth = json.loads(first["truth.json"])
    assert truth["as_of"] == "2024-03-31T23:59:59.000Z"
    customers = truth["months"]["2024-03"]["all"]["figures"]["customers_end"]
    assert truth["months"]["2024-03"]["all"]["kpis"]["USD"]["customers"] == f"{customers}.000000"
    row = next(line.split() for line in found[0].stdout.splitlines() if line.strip().startswith("2024-03"))
    assert row[1] == str(customers)


def test_the_truth_can_be_put_elsewhere_and_disorder_does_not_change_it(tmp_path: Path) -> None:
    """`--truth` writes the same document; the order of arrival is no matter of the truth."""
    result = simulate(*SMALL, "--disorder", "--out", str(tmp_path / "out"), "--truth", str(tmp_path / "truth.json"))
    assert result.exit_code == 0
    ordered = simulate(*SMALL, "--out", str(tmp_path / "ordered"))
    assert ordered.exit_code == 0
    assert (tmp_path / "truth.json").read_bytes() == (tmp_path / "out" / "truth.json").read_bytes()
    assert (tmp_path / "truth.json").read_bytes() == (tmp_path / "ordered" / "truth.json").read_bytes()
    payments = "payment-events.jsonl"
    assert (tmp_path / "out" / payments).read_bytes() != (tmp_path / "ordered" / payments).read_bytes()


def test_a_truth_that_cannot_be_written_is_told_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in Kafka cannot be taken back; a truth that was there is not touched by a run that is stopped."""
    sent: list[object] = []
    monkeypatch.setattr(simulate_cli, "Sender", lambda *given, **_: sent.append(given))
    result = simulate(*SMALL, "--truth", str(tmp_path / "missing" / "truth.json"))
    assert (result.exit_code, sent) == (Exit.CONFIGURATION, [])
    assert result.stderr.startswith(f"error: --truth: {tmp_path}/missing/truth.json cannot be written (No such file or directory)")

    pressed = threading.Event()
    pressed.set()
    monkeypatch.setattr(simulate_cli, "stop_signal", lambda: nullcontext(pressed))
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    for name in ("old", "new"):
        assert simulate(*SMALL, "--out", str(tmp_path / f"out-{name}"), "--truth", str(tmp_path / f"{name}.json")).exit_code == 130
    assert (tmp_path / "old.json").read_text(encoding="utf-8") == "{}"
    assert not (tmp_path / "new.json").exists()


def test_files_are_never_written_over(tmp_path: Path) -> None:
    """A directory with something in it is refused, and left as it is."""
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    result = simulate(*SMALL, "--out", str(tmp_path))
    assert result.exit_code == Exit.CONFIGURATION
    assert result.stderr.startswith(f"error: --out: {tmp_path} is not empty")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_what_is_stopped_says_so_and_has_no_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130; files without truth.json are not complete."""
    monkeypatch.setattr(simulate_cli, "_TELL_EVERY", 1)

    pressed = threading.Event()
    pressed.set()
    monkeypatch.setattr(simulate_cli, "stop_signal", lambda: nullcontext(pressed))
    result = simulate(*SMALL, "--out", str(tmp_path / "out"))
    assert result.exit_code == 130
    assert "Stopped." in result.stderr
    assert not (tmp_path / "out" / "truth.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--accounts", "0"), "--accounts: expected 1 to"),
        (("--months", "0"), "--months: expected 1 to"),
        (("--start", "2024-02-15"), "--start: 2024-02-15 is not the first day"),
        (("--segments", "smb=many"), "--segments: 'smb=many' is no segment"),
        (("--segments", "smb=1,smb=2"), "--segments: each once"),
        (("--segments", "other=1"), "--segments: each once"),
        (("--segments", "all=1"), "--segments: each once"),
        (("--segments", "smb=0"), "--segments: expected shares above 0"),
        (("--currencies", "USD,XXX"), "--currencies: 'XXX' is not simulated"),
        (("--currencies", "USD,USD"), "--currencies: expected each once"),
        (("--events-per-user-day", "-1"), "--events-per-user-day: expected 0 to 100"),
        (("--start", "2199-01"), "--months: the simulation ends on 2200-12-31"),
    ],
)
def test_what_cannot_be_simulated_names_the_option(arguments: tuple[str, ...], message: str) -> None:
    """One line on stderr, and the code of a wrong command line."""
    result = simulate(*arguments)
    assert result.exit_code == Exit.CONFIGURATION
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1


def test_a_scope_is_checked_wherever_it_is_made() -> None:
    """The names of segments are their order, and none is left out."""
    assert Scope(segments=(("a", 1), ("b", 2))).names() == ("a", "b")
    with pytest.raises(SimulationError, match="--segments: expected at least one"):
        Scope(segments=())
