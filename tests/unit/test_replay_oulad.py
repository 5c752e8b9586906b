"""The OULAD mapping, held against the files that ship: every row becomes what it should, none tells the future."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from deploy.replay import oulad
from deploy.replay.cli import replay_app
from deploy.replay.corpus import SAMPLE_DIR, Window
from deploy.replay.envelope import Event, ReplayDataError, topic_of
from models.decoding import decode_batch
from tests.support.replayed import records_of

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, str]


def _rows(part: str) -> list[Row]:
    with gzip.open(SAMPLE_DIR / f"oulad_small_{part}.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def accounts() -> dict[str, Row]:
    """Return the accounts of the sample by id."""
    return {row["account_id"]: row for row in _rows("accounts")}


@pytest.fixture(scope="module")
def commitments() -> list[Row]:
    """Return the commitments of the sample that are invoices: those with a weight."""
    return [row for row in _rows("commitments") if float(row["weight"]) > 0]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """Return every event of the sample."""
    return list(oulad.corpus(SAMPLE_DIR).events())


def _of(events: list[Event], event_type: str) -> list[Event]:
    return [event for event in events if event["type"] == event_type]


def _invoices(events: list[Event], event_type: str) -> dict[object, Event]:
    return {event["data"]["invoice_id"]: event for event in _of(events, event_type)}


def test_events_come_in_the_order_of_their_time(events: list[Event]) -> None:
    """The times of all topics together never go back."""
    times = [event["time"] for event in events]
    assert times == sorted(times)


def test_ids_are_unique_and_the_same_in_every_replay(events: list[Event]) -> None:
    """A second replay makes the same events with the same ids, so that it is recognised as one."""
    assert len({event["id"] for event in events}) == len(events)
    assert all(event["source"] == "/replay/oulad" for event in events)
    again = oulad.corpus(SAMPLE_DIR).events()
    assert all(event == second for event, second in zip(events, again, strict=True))


def test_every_event_is_valid(events: list[Event]) -> None:
    """The service's own decoder rejects none of them."""
    by_topic: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_topic[topic_of(event["type"])].append(event)
    for topic, of_topic in by_topic.items():
        decoded = decode_batch(topic, records_of(of_topic))
        assert not decoded.rejected
        assert len(decoded.events) == len(of_topic)


def test_each_usage_row_is_one_event_on_its_own_day(events: list[Event]) -> None:
    """Day, account, feature and count of the events are those of the rows, row for row."""
    made = Counter(
        (event["time"][:10], event["subject"], event["data"]["feature"], event["data"]["count"]) for event in _of(events, "usage.event")
    )
    assert made == Counter((row["day"], row["account_id"], row["feature"], int(row["count"])) for row in _rows("usage"))


def test_usage_is_spread_over_the_day(events: list[Event]) -> None:
    """Each hour has its share of the usage, within a tenth."""
    hours = Counter(event["time"][11:13] for event in _of(events, "usage.event"))
    share = hours.total() / 24
    assert len(hours) == 24
    assert all(abs(count - share) < share / 10 for count in hours.values())


def test_each_settled_row_that_counts_is_a_payment_on_its_day(events: list[Event], commitments: list[Row]) -> None:
    """Early, late and after a cancellation: a payment is where its row is, and its total is the weight in dollars."""
    paid = {(event["time"][:10], event["data"]["invoice_id"]): event["data"]["total"] for event in _of(events, "invoice.paid")}
    assert paid == {
        (row["day"], f"{row['account_id']}-{row['id_assessment']}"): {
            "amount_minor": round(float(row["weight"]) * 100),
            "currency": "USD",
        }
        for row in commitments
        if row["event"] == "settled"
    }


def test_each_score_of_a_settled_row_is_an_answer_on_its_day(events: list[Event]) -> None:
    """On a scale of 0 to 100, also where nothing is owed for it; a row without a score says nothing."""
    made = {(event["time"][:10], event["data"]["survey_id"]): event["data"]["score"] for event in _of(events, "survey.answered")}
    scored = [row for row in _rows("commitments") if row["event"] == "settled" and row["score"]]
    assert made == {(row["day"], f"{row['account_id']}-{row['id_assessment']}"): float(row["score"]) for row in scored}


def test_what_is_not_settled_on_its_due_day_is_overdue_at_its_end(events: list[Event], commitments: list[Row]) -> None:
    """One overdue event for each due row without a settlement up to and on that day, and no other."""
    settled = {(r["account_id"], r["id_assessment"]): r["day"] for r in commitments if r["event"] == "settled"}
    expected = {
        f"{row['account_id']}-{row['id_assessment']}": f"{row['day']}T23:59:59Z"
        for row in commitments
        if row["event"] == "due" and settled.get((row["account_id"], row["id_assessment"]), "9999") > row["day"]
    }
    overdue = _invoices(events, "invoice.overdue")
    assert {invoice: event["time"] for invoice, event in overdue.items()} == expected
    assert all(event["data"]["due_at"] == event["time"] for event in overdue.values())


def test_invoices_do_not_tell_who_will_cancel(events: list[Event], accounts: dict[str, Row]) -> None:
    """Accounts that signed up on one day for one term get the same invoices, whether they cancel later or not."""
    issued: dict[str, set[tuple[object, object]]] = defaultdict(set)
    for event in _of(events, "invoice.issued"):
        assert event["time"] == accounts[event["subject"]]["signed_up"] + "T00:00:00Z"
        invoice = event["data"]
        assessment = str(invoice["invoice_id"]).partition("-")[2]
        issued[event["subject"]].add((assessment, invoice.get("due_at")))
    schedules: dict[tuple[str, str], set[tuple[object, object]]] = defaultdict(set)
    for account_id, row in accounts.items():
        schedules[row["product"], row["term_start"]] |= issued[account_id]
    for account_id, row in accounts.items():
        known = {
            (assessment, due)
            for assessment, due in schedules[row["product"], row["term_start"]]
            if due is None or str(due)[:10] >= row["signed_up"]
        }
        assert issued[account_id] == known


def test_every_due_row_was_issued_with_that_day(events: list[Event], commitments: list[Row]) -> None:
    """The schedule of a term agrees with each of its accounts' own rows."""
    issued = _invoices(events, "invoice.issued")
    for row in commitments:
        if row["event"] == "due":
            invoice = issued[f"{row['account_id']}-{row['id_assessment']}"]["data"]
            assert invoice["due_at"] == row["day"] + "T23:59:59Z"


def test_what_is_not_yet_due_is_voided_when_the_subscription_ends(events: list[Event], accounts: dict[str, Row]) -> None:
    """Voided at the end: issued, not paid by then, and due after it or never."""
    ended = {event["subject"]: event["time"] for event in _of(events, "subscription.upserted") if "ended_at" in event["data"]}
    paid = _invoices(events, "invoice.paid")
    expected = set()
    for invoice, event in _invoices(events, "invoice.issued").items():
        end = ended[event["subject"]]
        is_paid = invoice in paid and paid[invoice]["time"] < end
        if not is_paid and str(event["data"].get("due_at", "9999")) > end:
            expected.add((invoice, end))
    voided = _invoices(events, "invoice.voided")
    assert {(invoice, event["time"]) for invoice, event in voided.items()} == expected
    assert ended.keys() == accounts.keys()


def test_each_account_begins_and_ends_once(events: list[Event], accounts: dict[str, Row]) -> None:
    """Its facts, contract and subscription come at the sign-up; the end is the cancellation, else that of the term."""
    created = {event["subject"]: event["time"][:10] for event in _of(events, "account.created")}
    assert created == {account_id: row["signed_up"] for account_id, row in accounts.items()}
    signed = {event["subject"]: event["data"] for event in _of(events, "contract.signed")}
    versions: dict[str, list[Event]] = defaultdict(list)
    for event in _of(events, "subscription.upserted"):
        versions[event["subject"]].append(event)
    for account_id, row in accounts.items():
        assert str(signed[account_id]["term_start"])[:10] == row["term_start"]
        assert str(signed[account_id]["term_end"])[:10] == row["term_end"]
        begun, ended = versions[account_id]
        assert (begun["time"][:10], begun["data"]["status"], begun["data"]["version"]) == (
            row["signed_up"],
            "active",
            1,
        )
        assert (ended["data"]["status"], ended["data"]["version"]) == ("canceled", 2)
        assert ended["data"]["ended_at"] == ended["time"]
        assert ended["time"] == (f"{row['cancelled']}T00:00:00Z" if row["cancelled"] else f"{row['term_end']}T23:59:59Z")
        assert ("canceled_at" in ended["data"]) == bool(row["cancelled"])


def test_a_window_is_counted_as_it_is_sent(events: list[Event]) -> None:
    """The count of a window is the number of its events, with the first day in it and the last one not."""
    corpus = oulad.corpus(SAMPLE_DIR)
    assert corpus.count(Window()) == len(events) == 191_453
    window = Window("2013-02-20", "2013-03-01")
    within = list(window.of(iter(events)))
    assert corpus.count(window) == len(within)
    assert {within[0]["time"][:10], within[-1]["time"][:10]} == {"2013-02-20", "2013-02-28"}
    assert Window.chosen(corpus, None, None, 3) == Window("", "2012-04-05")


def _write(file: Path, *lines: str) -> None:
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")


def _tiny(directory: Path, name: str) -> None:
    header = "account_id,product,signed_up,term_start,term_end,cancelled,num_of_prev_attempts,studied_credits"
    account = "A1,AAA,2013-01-01,2013-02-01,2013-09-01,,0.0,60.0"
    _write(directory / f"oulad_{name}_accounts.csv.gz", header, account)
    _write(directory / f"oulad_{name}_usage.csv.gz", "day,account_id,feature,count,pages", "2013-02-02,A1,quiz,3,1")
    _write(
        directory / f"oulad_{name}_commitments.csv.gz",
        "day,account_id,id_assessment,event,assessment_type,weight,score",
        "2013-03-01,A1,7,due,TMA,12.5,",
        "2013-03-01,A1,7,settled,TMA,12.5,80.0",
        "2013-03-02,A1,8,due,TMA,0.0,",
    )


def test_the_larger_set_of_a_directory_is_taken(tmp_path: Path) -> None:
    """With both sets there it is dev, and the title says so."""
    _tiny(tmp_path, "small")
    assert oulad.find(tmp_path).name == "small"
    _tiny(tmp_path, "dev")
    assert oulad.find(tmp_path).name == "dev"
    assert "OULAD dev" in oulad.corpus(tmp_path).title


def test_settled_on_the_due_day_is_on_time(tmp_path: Path) -> None:
    """A payment of the due day precedes its end, wherever the two rows stand in the file; weight 0 is no invoice."""
    _tiny(tmp_path, "small")
    types = [event["type"] for event in oulad.corpus(tmp_path).events()]
    assert types == [
        "account.created",
        "contract.signed",
        "subscription.upserted",
        "invoice.issued",
        "usage.event",
        "invoice.paid",
        "survey.answered",
        "subscription.upserted",
    ]


@pytest.mark.parametrize("part", ["accounts", "usage", "commitments"])
def test_a_file_with_other_columns_is_refused_by_name(tmp_path: Path, part: str) -> None:
    """The error names the file."""
    _tiny(tmp_path, "small")
    _write(tmp_path / f"oulad_small_{part}.csv.gz", "something,else")
    with pytest.raises(ReplayDataError, match=f"oulad_small_{part}"):
        list(oulad.corpus(tmp_path).events())


def test_a_directory_without_the_data_is_refused(tmp_path: Path) -> None:
    """The error names the directory and the files it should hold."""
    with pytest.raises(ReplayDataError, match="oulad_dev"):
        oulad.corpus(tmp_path)


def test_events_are_plain_json(events: list[Event]) -> None:
    """What is sent is JSON as it stands: no value needs an encoder of its own."""
    assert json.loads(json.dumps(events[:1000])) == events[:1000]


def test_the_attribution_lists_the_files_that_ship() -> None:
    """Each data file is there with the sum that ATTRIBUTION.md gives, and none besides."""
    page = (SAMPLE_DIR / "ATTRIBUTION.md").read_text(encoding="utf-8")
    listed = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", page, flags=re.MULTILINE)}
    shipped = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in SAMPLE_DIR.glob("*.gz")}
    assert listed == shipped


def test_a_dry_run_prints_events_and_counts_and_needs_no_broker() -> None:
    """The first events as JSON lines, the number of each type, and which data they are of."""
    arguments = ["oulad", "--dry-run", "--from", "2013-02-01", "--until", "2013-02-02", "--bootstrap", "127.0.0.1:1"]
    ran = CliRunner().invoke(replay_app, arguments)
    assert ran.exit_code == 0, ran.output
    lines = ran.stdout.splitlines()
    assert json.loads(lines[0])["time"].startswith("2013-02-01T")
    day = Window("2013-02-01", "2013-02-02").of(oulad.corpus(SAMPLE_DIR).events())
    counts = Counter(event["type"] for event in day)
    for event_type, count in counts.items():
        assert f"{count:>10,}  {event_type}" in lines
    assert lines[-1] == f"{counts.total():>10,}  in all"
    assert "OULAD small" in ran.stderr


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "quick"])
def test_a_speed_that_is_none_is_refused(speed: str) -> None:
    """Exit code 2, before anything is read or sent."""
    ran = CliRunner().invoke(replay_app, ["oulad", "--dry-run", "--speed", speed])
    assert ran.exit_code == 2
    assert "neither 'max' nor a number above 0" in ran.stderr


@pytest.mark.parametrize("arguments", [["oulad", "NOWHERE"], ["oulad", "--from", "2020-01-01"], ["ravenstack", "NOWHERE"]])
def test_what_is_not_there_is_one_line_and_exit_code_2(arguments: list[str]) -> None:
    """A folder without the data, and days without an event."""
    ran = CliRunner().invoke(replay_app, [*arguments, "--dry-run"])
    assert ran.exit_code == 2
    assert ran.stderr.splitlines()[-1].startswith("error: ")
