"""The report of a month, from records of partitions to what is printed: sums, nulls, comparisons, and what the command says."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, get_args

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deploy import cli
from deploy.kpi import running
from deploy.kpi.benchmarks_file import SHIPPED, load_benchmarks
from deploy.kpi.exporting import safe
from deploy.kpi.numbers import interval_shown, plain, shown
from deploy.kpi.reading import Latest
from models.kpi.benchmarks import Benchmark, by_kpi
from models.kpi.catalogue import KPIS
from models.kpi.exact import Reading, Reason
from models.kpi.figures import FIGURES, Key
from models.kpi.portfolio.book import Book
from models.kpi.published import Published
from models.kpi.report import COHORTS, HEADLINE, REASONS, Line, Report, Terms, cohorts, edges, report
from models.kpi.rules import KpiRules
from models.months import UTC_ZONE, parse_month
from models.portfolio import PortfolioRecord, PortfolioRules
from stream_app.exits import BrokerError, ConfigError
from stream_app.settings import Settings
from tests.support.profiles import unhurried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

GOLDEN = Path(__file__).parents[1] / "golden" / "kpi_report.txt"
OCTOBER, NOVEMBER = parse_month("2026-10"), parse_month("2026-11")
AS_OF = "2026-11-02T12:00:00Z"
VERSION = Settings(portfolio=PortfolioRules(segments=("smb",))).config_version


def record(partition: int, month: str, segment: str, figures: Mapping[str, int], as_of: str = AS_OF) -> PortfolioRecord:
    """A record as a worker writes it."""
    return PortfolioRecord(partition, month, segment, as_of, VERSION, dict(figures))


def terms(*benchmarks: Benchmark, currency: str = "") -> Terms:
    """What a report is made by, in UTC."""
    return Terms(KpiRules(), "zero", UTC_ZONE, by_kpi(benchmarks), currency)


def benchmark(kpi: str, low: int | None, high: int | None) -> Benchmark:
    """A benchmark of nobody."""
    words = {"population": "all", "publisher": "somebody", "title": "it", "url": "somewhere", "note": "as here"}
    return Benchmark(kpi=kpi, low=low and Decimal(low), high=high and Decimal(high), read=datetime(2026, 11, 1, tzinfo=UTC).date(), **words)


def values(made: Report, column: str) -> dict[tuple[str, str], Reading]:
    """What a column says."""
    [found] = [each for each in made.columns if each.name == column]
    return {(line.kpi.name, line.label): line.now for line in found.lines}


# -- adding up

NAMES = [name for name, figure in FIGURES.items() if not figure.label]
LABELLED = ["mrr_by_product", "tickets_closed_by_agent", "csat_answers", "csat_positive", "csat_scores"]
LABELS = {"scale": ("1-5",)}

figures_of_accounts = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(NAMES), st.integers(0, 10**12), max_size=12),
        st.dictionaries(st.tuples(st.sampled_from(LABELLED), st.integers(0, 1)), st.integers(1, 10**9), max_size=4),
        st.sampled_from(("smb", "other")),
    ),
    max_size=8,
)


def texts(plain_figures: Mapping[str, int], labelled: Mapping[tuple[str, int], int]) -> dict[str, int]:
    """The figures of an account under the texts of their keys, money in EUR."""
    made = {}
    for name, value in plain_figures.items():
        made[str(Key(name, "", "EUR" if FIGURES[name].is_money else ""))] = value
    for (name, number), value in labelled.items():
        labels = LABELS.get(FIGURES[name].label, ("one", "two"))
        made[str(Key(name, labels[number % len(labels)], "EUR" if FIGURES[name].is_money else ""))] = value
    # What left was there before: rates above one are no portfolio's.
    made["customers_start"] = made.get("customers_start", 0) + made.get("customers_churned", 0)
    return made


@given(accounts=figures_of_accounts, data=st.data())
@unhurried(30)
def test_a_report_does_not_depend_on_how_accounts_are_shared_out(accounts: list[Any], data: st.DataObject) -> None:
    """Whichever partition an account is in, and however many there are: each KPI is that of a plain sum of all accounts' figures."""
    told = [(texts(one, two), segment) for one, two, segment in accounts]
    scopes = {"smb": ("smb",), "total": ("smb", "other")}
    expected = {}
    for name, segments in scopes.items():
        whole: Counter[str] = Counter()
        for figures, segment in told:
            if segment in segments:
                for key, value in figures.items():
                    whole[key] += value
        expected[name] = Book({read(key): value for key, value in whole.items()}, None, "EUR")
    count = data.draw(st.integers(1, 4))
    parts: dict[tuple[int, str], Counter[str]] = {(number, segment): Counter() for number in range(count) for segment in ("smb", "other")}
    for figures, segment in told:
        parts[data.draw(st.integers(0, count - 1)), segment].update(figures)
    records = [record(number, "2026-10", segment, figures) for (number, segment), figures in parts.items()]
    made = report(Published.of(records, count, ("smb", "other")), OCTOBER, scopes, KPIS.values(), terms(currency="EUR"))
    for name, book in expected.items():
        said = values(made, name)
        for kpi in KPIS.values():
            if kpi.has_options:
                continue  # they take the days of the month, which a bare book does not know
            wanted = kpi.value(book)
            if isinstance(wanted, Reading):
                assert said[kpi.name, ""] == wanted, kpi.name
            else:
                found = {label: reading for (other, label), reading in said.items() if other == kpi.name and label}
                assert found == wanted, kpi.name


def read(text: str) -> Key:
    """A key apart from `models.kpi.figures.read_key`."""
    name, _, currency = text.partition("@")
    name, _, label = name.removesuffix("}").partition("{")
    return Key(name, label, currency)


CHURN = ("customers_start", "customers_churned", "customers_end", "customers_end_paused")


def test_a_total_is_made_of_figures_and_never_a_mean_of_ratios() -> None:
    """One of 10 and none of 90 are 1 %, not 5 %."""
    small = dict(zip(CHURN, (10, 1, 9, 0), strict=True))
    large = dict(zip(CHURN, (90, 0, 90, 0), strict=True))
    published = Published.of([record(0, "2026-10", "smb", small), record(0, "2026-10", "other", large)], 1, ("smb", "other"))
    scopes = {"smb": ("smb",), "other": ("other",), "total": ("smb", "other")}
    made = report(published, OCTOBER, scopes, [KPIS["customer_churn_rate"]], terms())
    rates = [values(made, name)["customer_churn_rate", ""] for name in scopes]
    assert [(rate.value, rate.n) for rate in rates] == [(10, 10), (0, 90), (1, 100)]


def test_what_is_not_configured_or_not_there_is_not_taken() -> None:
    """A segment that was configured once, and a partition above the count, stay behind on the topic; a later record replaces an earlier."""
    records = [
        record(0, "2026-10", "other", {"customers_end": 1}),
        record(0, "2026-10", "other", {"customers_end": 2, "from_the_future": 1, "mrr_end@EUR": 0}),
        record(0, "2026-10", "gone", {"customers_end": 40}),
        record(7, "2026-10", "other", {"customers_end": 80}),
    ]
    published = Published.of(records, 2, ("other",))
    assert published.figures(OCTOBER, ("other",)) == {Key("customers_end"): 2, Key("mrr_end", "", "EUR"): 0}
    assert published.unknown == {"from_the_future"}
    assert published.others == {"gone": 1, "other": 1}
    assert published.currencies() == set()
    assert published.figures(NOVEMBER, ("other",)) is None
    assert str(published.standing(OCTOBER, ("other",))) == "1 of 2 partitions has reported"
    assert published.standing(OCTOBER, ("other",)).missing == (1,)


def test_a_partition_that_lacks_a_segment_has_not_reported() -> None:
    """A segment that was configured a moment ago is told by the workers that know it only."""
    records = [record(0, "2026-10", name, {}) for name in ("smb", "other")] + [record(1, "2026-10", "other", {})]
    standing = Published.of(records, 2, ("smb", "other")).standing(OCTOBER, ("smb", "other"))
    assert (standing.reported, standing.missing) == ((0,), (1,))


def test_the_records_of_the_topic_in_their_order() -> None:
    """The latest of a key counts, a tombstone deletes it, and what is none of ours is counted."""
    latest = Latest()
    value = msgspec.json.encode(record(0, "2026-10", "other", {"customers_end": 3}))
    timeless = msgspec.json.encode(record(0, "2026-13", "other", {}))
    for key, one in ((b"a", value), (b"b", value), (b"b", None), (b"c", b"{}"), (b"d", timeless), (None, value)):
        latest.take(key, one)
    published = latest.published(Settings(), 1)
    assert len(published.records) == 1
    assert latest.unreadable == 3


# -- comparing

MONTH = {"customers_start": 100, "customers_churned": 8, "customers_end": 95, "customers_end_paused": 0}


def churn(as_of: str) -> Any:
    """The churn rate of November as of an instant, against 3 to 7."""
    records = [record(0, month, "other", MONTH, as_of) for month in ("2026-10", "2026-11")]
    names = ("customer_churn_rate", "customers", "customer_churn_rate_annual")
    kpis = [KPIS[name] for name in names]
    bench = [benchmark("customer_churn_rate", 3, 7)]
    made = report(Published.of(records, 1, ("other",)), NOVEMBER, {"total": ("other",)}, kpis, terms(*bench))
    return made, {line.kpi.name: line for line in made.columns[0].lines}


def test_a_month_that_runs_is_held_against_no_benchmark_of_a_month() -> None:
    """Two days of churn would be better for the calendar alone; and a year has 182.5 times two days."""
    made, lines = churn("2026-11-02T12:00:00Z")
    assert made.is_running
    [compared] = lines["customer_churn_rate"].compared
    assert (compared.verdict, compared.reason) == (None, "still_running")
    over = Fraction(lines["customer_churn_rate_annual"].now.value)
    assert abs(float(over) - 100 * (1 - 0.92 ** (365 / 2))) < 1e-9
    made, lines = churn("2026-12-01T00:00:00Z")
    assert not made.is_running
    assert lines["customer_churn_rate"].compared[0].verdict == "worse"
    assert abs(float(Fraction(lines["customer_churn_rate_annual"].now.value)) - 100 * (1 - 0.92 ** (365 / 30))) < 1e-9
    assert lines["customers"].change == 0
    assert lines["customer_churn_rate"].before.value == 8


@pytest.mark.parametrize(
    ("kpi", "low", "high", "value", "verdict"),
    [
        ("customer_churn_rate", 3, 7, 3, "within"),
        ("customer_churn_rate", 3, 7, 7, "within"),
        ("customer_churn_rate", 3, 7, Fraction(299, 100), "better"),
        ("customer_churn_rate", 3, 7, Fraction(701, 100), "worse"),
        ("nps", 31, 41, 30, "worse"),
        ("nps", 31, 41, 42, "better"),
        ("quick_ratio", 4, None, 400, "within"),
        ("quick_ratio", 4, None, 3, "worse"),
        ("net_mrr_churn", None, 5, -3, "within"),
        ("tickets_per_100_users", 2, 3, 1, "below"),
        ("tickets_per_100_users", 2, 3, 4, "above"),
    ],
)
def test_better_and_worse_are_as_the_kpi_says(kpi: str, low: int | None, high: int | None, value: Any, verdict: str) -> None:
    """Both ends belong to the range; a KPI that is good neither way is above or below."""
    assert benchmark(kpi, low, high).verdict(value) == verdict


def test_the_benchmarks_that_ship_are_dated_and_sourced() -> None:
    """Each names who said it where, of whom, and when it was read; none is of an amount."""
    listed = [each for some in load_benchmarks(None).values() for each in some]
    assert listed
    for each in listed:
        assert each.url.startswith("https://")
        assert each.published is None or each.published <= each.read
        assert each.publisher
        assert each.note
    assert len({(each.kpi, each.label, each.population) for each in listed}) == len(listed)
    assert yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["benchmarks"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("benchmarks: [{kpi: nrr}]", "benchmarks.0.population"),
        ("benchmarks: [{kpi: nrrr, KEPT}]", "benchmarks.0: kpi: 'nrrr' is no KPI"),
        ("benchmarks: [{kpi: mrr, KEPT}]", "is an amount"),
        ("benchmarks: [{kpi: nrr, low: 7, high: 3, KEPT}]", "low 7 is above high 3"),
        ("benchmarks: [{kpi: nrr, KEPT, hihg: 3}]", "benchmarks.0.hihg"),
        ("benchmarks: [", "is not YAML: line"),
        ("- 1", "valid dictionary"),
    ],
)
def test_a_file_of_benchmarks_that_is_wrong_is_told_by_its_setting(tmp_path: Path, text: str, told: str) -> None:
    """The setting, its variable, the file, where in it, and what it should be."""
    path = tmp_path / "mine.yaml"
    low = "" if "low" in text else "low: 1, "
    path.write_text(text.replace("KEPT", f"{low}population: p, publisher: q, title: t, read: 2026-11-01, url: u, note: n"))
    with pytest.raises(ConfigError) as caught:
        load_benchmarks(path)
    assert {problem.key for problem in caught.value.problems} == {"kpi.benchmarks_file"}
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_of_benchmarks_that_is_not_there(tmp_path: Path) -> None:
    """It is not passed over."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_benchmarks(tmp_path / "none.yaml")


# -- amounts, cohorts, words


def test_amounts_in_several_currencies_are_null_until_one_is_chosen() -> None:
    """Ratios of amounts too; counts are as they are. Amounts of the month before that are in another currency make it several."""
    now = {"mrr_start@EUR": 10**8, "mrr_end@EUR": 2 * 10**8, "customers_end": 3, "customers_end_paused": 0}
    before = {"mrr_end@USD": 10**8, **now}
    published = Published.of([record(0, "2026-10", "other", now), record(0, "2026-09", "other", before)], 1, ("other",))
    kpis = [KPIS[name] for name in ("mrr", "mrr_growth_rate", "customers")]
    made = report(published, OCTOBER, {"total": ("other",)}, kpis, terms())
    assert (made.currency, made.currencies) == ("", ("EUR", "USD"))
    assert [line.now.reason for line in made.columns[0].lines] == ["several_currencies", "several_currencies", None]
    chosen = report(published, OCTOBER, {"total": ("other",)}, kpis, terms(currency="EUR"))
    assert [line.now.value for line in chosen.columns[0].lines] == [200, 100, 3]


@given(cells=st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 5)), st.integers(0, 9), max_size=20), last=st.integers(0, 5))
@unhurried(50)
def test_a_matrix_is_of_months_since(cells: dict[tuple[int, int], int], last: int) -> None:
    """Row by row: of the 9 that began, how many are left as each month ends; the running month is null."""
    first = parse_month("2026-06")
    starts = {start for start, _ in cells}
    month_texts = [f"2026-{number + 6:02}" for number in range(6)]
    records = []
    for month in range(6):
        figures = {f"cohort_accounts{{{month_texts[start]}}}": 9 for start in starts if start <= month}
        figures |= {
            f"cohort_paying{{{month_texts[start]}}}": left for (start, since), left in cells.items() if start + since == month and left
        }
        records.append(record(0, month_texts[month], "other", {"customers_end": 0, **figures}))
    made = cohorts(Published.of(records, 1, ("other",)), KPIS["cohort_retention"], first + last, last + 1, ("other",), terms())
    told = {
        (start - first, since): None if cell.value is None else cell.value
        for start, row in made.items()
        for since, cell in enumerate(row)
        if start - first in starts
    }
    for start in starts:
        if start < min(last + 1, 5):
            for since in range(last - start + 1):
                # November runs.
                expected = None if start + since == 5 else Fraction(100 * cells.get((start, since), 0), 9)
                assert told[start, since] == expected


def test_every_reason_has_its_words_and_every_name_its_kpi() -> None:
    """A reason without words would be a null that nobody explains."""
    assert REASONS.keys() == set(get_args(Reason))
    assert {*HEADLINE, *COHORTS} <= KPIS.keys()


@pytest.mark.parametrize("name", KPIS)
def test_every_kpi_can_be_told_at_its_edges(name: str) -> None:
    """Nothing seen is null; all zeros are 0, or null with a reason."""
    found = edges(KPIS[name])
    nothing = found["no event of that kind was ever seen"]
    assert isinstance(nothing, Reading)
    assert nothing.reason == "not_observed"
    zero = found["all of its figures are 0"]
    assert not isinstance(zero, Reading) or zero.value == 0 or zero.reason


@pytest.mark.parametrize(
    ("kpi", "value", "text"),
    [
        ("mrr", 123_456_789, "1,234,567.89"),
        ("mrr", Fraction(-1, 3), "0.00"),
        ("nrr", Fraction(2005, 20), "100.3 %"),
        ("customers", 1_234, "1,234"),
        ("quick_ratio", Fraction(7, 2), "3.50"),
        ("first_response_median", 59, "59 s"),
        ("first_response_median", 5_400, "90.0 min"),
        ("first_response_median", 86_400, "24.0 h"),
        ("first_response_median", 400_000, "4.6 d"),
        ("customer_lifetime_mean", Fraction(5, 3), "1.67 years"),
        ("nps", Fraction(-1, 8), "-0.1"),
        ("sentiment", Fraction(1, 8), "0.13"),
    ],
)
def test_values_are_told_in_their_unit(kpi: str, value: Any, text: str) -> None:
    """Rounded half-up once, with thousands, never a minus before a zero."""
    assert shown(KPIS[kpi], value, "USD") == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [("0", "0.9", "0.0–0.9"), ("-40.72", "-3.4", "-40.7 to -3.4"), ("-6", "28", "-6.0 to 28.0"), ("3", "4", "3.0–4.0")],
)
def test_an_interval_below_zero_is_told_without_two_dashes(low: str, high: str, text: str) -> None:
    """`-40.7–-3.4` cannot be read."""
    ends = (Decimal(low), Decimal(high))
    now = Reading(0, None, 9, ends)
    assert interval_shown(Line(KPIS["nps"], "", now, Reading(0), ()), "") == text


def test_changes_have_a_sign_and_shares_change_by_points() -> None:
    """From 95 % to 97 % is 2 points, not 2 per cent."""
    assert shown(KPIS["nrr"], 2, "", is_change=True) == "+2.0 pp"
    assert shown(KPIS["mrr"], -150, "USD", is_change=True) == "-1.50"
    assert shown(KPIS["first_response_median"], -90, "", is_change=True) == "-90 s"
    assert [plain(each) for each in (Fraction(1, 3), 5, Fraction(5, 2), Decimal("1E-9"), 100)] == ["0.333333", "5", "2.5", "0", "100"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@SUM(A1)", "\tx", "\rx"])
def test_no_text_is_a_formula(text: str) -> None:
    """A product may be called anything."""
    assert safe(text) == f"'{text}"
    assert safe(f"a{text}") == f"a{text}"


# -- the command


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = "Callable[..., Ended]"


def portfolio() -> list[PortfolioRecord]:
    """Two segments, two partitions, September to November; partition 1 has not told of November yet."""
    base = {
        "customers_start": 40, "customers_start_paused": 0, "customers_churned": 1, "customers_new": 3, "customers_reactivated": 0,
        "customers_same_period_churned": 0, "customers_end": 42, "customers_end_paused": 0,
        "mrr_start@USD": 400_000 * 10**6, "mrr_end@USD": 420_000 * 10**6, "mrr_grr_kept@USD": 390_000 * 10**6,
        "mrr_nrr_kept@USD": 402_000 * 10**6, "mrr_by_product{=pro}@USD": 420_000 * 10**6,
        "cohort_accounts{2026-09}": 4, "cohort_paying{2026-09}": 3,
    }  # fmt: skip
    return [
        record(partition, month, segment, {**base, "customers_churned": 2 if month == "2026-10" else 1})
        for month in ("2026-09", "2026-10", "2026-11")
        for partition in (0, 1)
        for segment in ("smb", "other")
        if not (partition == 1 and month == "2026-11")
    ]


class FakeFeed:
    """What the command reads, without a broker: `later` are records that come while it watches, then it is stopped."""

    records: ClassVar[list[PortfolioRecord]] = []
    later: ClassVar[list[list[PortfolioRecord]]] = []
    stop: Callable[[], None] = staticmethod(lambda: None)
    fails = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.latest = Latest()

    def __enter__(self) -> Self:
        if self.fails:
            raise BrokerError("the broker at nowhere has no answer", "start one")
        self._take(self.records)
        self._later = iter(self.later)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _take(self, records: Iterable[PortfolioRecord]) -> int:
        for each in records:
            self.latest.take(f"{each.partition}/{each.month}/{each.segment}".encode(), msgspec.json.encode(each))
        return len(list(records))

    def published(self) -> Published:
        """What is published now."""
        return self.latest.published(self._settings, 2)

    def take_more(self, _wait_ms: int) -> int:
        """Take the next of what comes later; when there is nothing more it is stopped."""
        some = next(self._later, None)
        if some is None:
            type(self).stop()
            return 0
        return self._take(some)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command in this process on prepared records."""
    monkeypatch.setenv("CHURNWATCH_PORTFOLIO__SEGMENTS", '["smb"]')
    monkeypatch.setattr(running, "Feed", FakeFeed)
    monkeypatch.setattr(FakeFeed, "records", portfolio())

    def ended(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["churnwatch", "kpi", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        return Ended(int(stopped.value.code or 0), printed.out, printed.err)

    return ended


SHOWN = (
    "mrr",
    "arpa",
    "grr",
    "nrr",
    "mrr_by_product",
    "gross_mrr_churn",
    "customers",
    "customer_churn_rate",
    "cohort_retention",
    "customers_at_risk_rate",
    "nps",
)


def told(text: str) -> str:
    """What is printed without the spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def test_a_month_is_a_golden_table(run: Callable[..., Ended]) -> None:
    """If this fails and is meant to: write what it says into tests/golden/kpi_report.txt, and look at it."""
    ended = run("2026-10", *SHOWN)
    assert ended.code == 0
    assert told(ended.out) == GOLDEN.read_text(encoding="utf-8")


def test_what_was_never_observed_is_named_below_a_whole_report(run: Callable[..., Ended]) -> None:
    """Not a hundred lines of nothing; and never a zero."""
    out = " ".join(run("2026-10").out.split())
    _, _, below = out.partition("no event of that kind has come, or workers do not tell the figure of this month: docs/portfolio.md): ")
    assert {"nps,", "csat,", "mau,", "cac,"} <= set(below.split())
    assert "Net promoter score" not in out


def test_json_has_every_kpi_with_its_reason_or_value(run: Callable[..., Ended]) -> None:
    """Amounts in whole units, nulls with their reason, benchmarks with their source."""
    found = json.loads(run("2026-10", "--json").out)
    assert (found["month"], found["currency"], found["still_running"]) == ("2026-10", "USD", False)
    lines = {(line["kpi"], line.get("label")): line for line in found["segments"]["total"]["kpis"]}
    assert {name for name, _ in lines} == KPIS.keys()
    assert all((line["value"] is None) == (line["reason"] is not None) for line in lines.values())
    assert (lines["mrr", None]["value"], lines["mrr", None]["unit"]) == (16_800, "money")
    assert lines["nrr", None]["value"] == 100.5
    assert lines["mrr_by_product", "=pro"]["value"] == 100
    rate = lines["customer_churn_rate", None]
    assert (rate["value"], rate["n"], rate["previous"]["value"], rate["change"]) == (5, 160, 2.5, 2.5)
    assert rate["interval"][0] < 5 < rate["interval"][1]
    assert rate["benchmarks"][0]["verdict"] == "within"
    assert rate["benchmarks"][0]["url"].startswith("https://")
    assert found["cohorts"]["total"]["cohort_retention"]["2026-09"][0]["value"] == 75


def test_csv_is_one_line_for_each_value_and_safe_to_open(run: Callable[..., Ended]) -> None:
    """Numbers are numbers, texts are no formulas, and a history has a line for each month."""
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv", "--months", "2", "--by-segment", "mrr", "mrr_by_product", "nps").out)))
    assert {(row["month"], row["segment"]) for row in rows} == {
        (month, segment) for month in ("2026-10", "2026-11") for segment in ("smb", "other", "total")
    }
    assert {row["label"] for row in rows if row["kpi"] == "mrr_by_product"} == {"'=pro"}
    [total] = [row for row in rows if (row["month"], row["segment"], row["kpi"]) == ("2026-10", "total", "mrr")]
    assert (total["value"], total["currency"], total["reason"], total["partitions_reported"]) == ("16800", "USD", "", "2")
    assert {row["reason"] for row in rows if row["kpi"] == "nps"} == {"not_observed"}


def test_the_running_month_and_what_is_missing_are_said(run: Callable[..., Ended]) -> None:
    """With no month the latest is reported, though one partition has not told of it."""
    out = run("mrr").out
    assert "2026-11, as of 2026-11-02T12:00:00Z; still running" in out
    assert "1 of 2 partitions has reported; nothing of partition 1" in out
    assert "8,400.00" in out


def test_segments_side_by_side_and_alone(run: Callable[..., Ended]) -> None:
    """The total has a column of its own; a segment that is not there is told with those that are."""
    out = run("2026-10", "customers", "nrr", "--by-segment").out
    assert [line.split() for line in out.splitlines() if line.startswith(("KPI", "Customers"))] == [
        ["KPI", "smb", "other", "total"],
        ["Customers", "84", "84", "168"],
    ]
    assert " 84 " in run("2026-10", "customers", "--segment", "smb").out
    ended = run("--segment", "sbm")
    assert ended.code == 2
    assert "segments are smb, other" in ended.err


def test_a_history_has_a_row_for_each_month(run: Callable[..., Ended]) -> None:
    """As many as there are; the running one is marked."""
    out = run("--months", "12", "customers", "cohort_retention").out
    assert [line.split() for line in out.splitlines() if line.startswith("2026-") and "as of" not in line][:3] == [
        ["2026-09", "168"],
        ["2026-10", "168"],
        ["2026-11*", "84"],
    ]
    assert "Cohort retention, per cent, months since" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nr",), 2, "did you mean nrr, "),
        (("2026-13",), 2, "'2026-13' is no month"),
        (("2026-10", "2026-11"), 2, "several months"),
        (("2020-01",), 1, "there are of 2026-09 to 2026-11"),
        (("--currency", "EUR"), 2, "amounts are in USD"),
        (("--explain", "net promoter"), 2, "nps"),
        (("--explain", "nrr", "--watch"), 2, "--explain goes with"),
        (("--offline",), 2, "--offline goes with --explain"),
        (("--watch", "--format", "csv"), 2, "--watch has no CSV"),
        (("--json", "--format", "csv"), 2, "two formats"),
        (("--list", "--format", "csv"), 2, "--list has no CSV"),
    ],
)
def test_what_cannot_be_meant_is_told_with_what_could(run: Callable[..., Ended], arguments: tuple[str, ...], code: int, words: str) -> None:
    """One line on stderr, and the code of docs/interface.md."""
    ended = run(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err


def test_nothing_published_says_what_to_do(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty topic, and one that has other segments only, which another configuration made."""
    monkeypatch.setattr(FakeFeed, "records", [])
    ended = run()
    assert (ended.code, "run a worker" in ended.err) == (1, True)
    monkeypatch.setattr(FakeFeed, "records", [record(0, "2026-10", "enterprise", {})])
    ended = run()
    assert (ended.code, "of other segments only: enterprise" in ended.err) == (1, True)


def test_another_configuration_and_other_segments_are_said(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the total would silently be one of some segments."""
    newer = msgspec.structs.replace(record(0, "2026-11", "other", {}), config_version="0" * 64)
    monkeypatch.setattr(FakeFeed, "records", [*portfolio(), record(0, "2026-11", "enterprise", {}), newer])
    ended = run("2026-10", "mrr", "--format", "csv")
    assert "warning: the figures were made with another configuration" in ended.err
    assert "not taken: enterprise (1)" in ended.err
    assert json.loads(run("2026-10", "mrr", "--json").out)["notes"]


def test_explain_gives_the_definition_and_the_figures_of_the_month(run: Callable[..., Ended]) -> None:
    """Which amounts went into it, and what they came to."""
    out = run("2026-10", "--explain", "nrr").out
    assert "sum of MRR at the end / sum of MRR at the start" in out
    assert "mrr_nrr_kept = 16080.00 USD" in out
    assert "all of its figures are 0: null, zero_denominator" in out
    assert "= 100.5 %" in out
    found = json.loads(run("2026-10", "--explain", "NRR", "--json").out)
    assert found["values"]["total"]["figures"]["mrr_nrr_kept"] == {"mrr_nrr_kept@USD": 1_608_000 * 10**6}


def test_explain_needs_no_broker(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition is printed all the same; with --offline nobody is asked."""
    monkeypatch.setattr(FakeFeed, "fails", True)
    ended = run("--explain", "nrr")
    assert (ended.code, "Net revenue retention" in ended.out, "has no answer" in ended.err) == (0, True, True)
    ended = run("--explain", "nrr", "--offline")
    assert (ended.code, ended.err) == (0, "")
    assert "Net revenue retention" in ended.out
    assert run().code == 3


def test_the_list_has_every_kpi(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """By section, without a broker."""
    monkeypatch.setattr(FakeFeed, "fails", True)
    out = run("--list").out
    assert all(name in out for name in KPIS)
    assert [each["kpi"] for each in json.loads(run("--list", "--json", "nrr", "grr").out)] == ["grr", "nrr"]


def test_watch_prints_again_when_something_is_published(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of JSON for each change; what changes nothing prints nothing; being stopped is a clean end."""
    stopped: list[int] = []

    def stop() -> None:
        stopped.append(1)
        raise KeyboardInterrupt

    changed = record(1, "2026-11", "other", {"customers_end": 58})
    monkeypatch.setattr(FakeFeed, "later", [[], [changed]])
    monkeypatch.setattr(FakeFeed, "stop", staticmethod(stop))
    ended = run("--watch", "--json", "customers")
    assert (ended.code, stopped) == (0, [1])
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["segments"]["total"]["kpis"][0]["value"] for line in lines] == [84, 142]
