"""The recording rules as Prometheus reads them: each ratio is that of the catalogue, from the gauges of several workers."""

from __future__ import annotations

import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry

import deploy.prometheus
from models.kpi.catalogue import KPIS
from models.kpi.exact import Reading
from models.kpi.figures import FIGURES, MICRO, Key, add_up, read_key
from models.kpi.money import scale
from models.kpi.portfolio.book import Book
from stream_app.metrics import HEADLINE, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

pytestmark = pytest.mark.integration

RULES: Final = Path(deploy.prometheus.__file__).with_name("portfolio.rules.yaml")
SEGMENTS: Final = ("smb", "other", "empty")
CURRENCIES: Final = ("USD", "JPY")
Figures = dict[str, dict[str, int]]


def promtool(*arguments: str | Path) -> None:
    """Run Prometheus' own tool; it must be there and have nothing to say against it."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.fail("promtool is missing: it is in Debian's package prometheus (apt-get install --no-install-recommends prometheus)")
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict[str, str]]:
    """Read the rules, in their order."""
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def random_figures(rng: Random) -> Figures:
    """Draw the running month of a partition: whole amounts, so that floats say them exactly; nothing at all in one segment."""

    def drawn(name: str, segment: str) -> Iterator[tuple[str, int]]:
        for currency in CURRENCIES if FIGURES[name].is_money else ("",):
            whole = 0 if segment == "empty" else rng.randrange(1, 9) if name.endswith("_paused") else rng.randrange(9, 1000)
            yield str(Key(name, "", currency)), whole * scale(currency) * MICRO if currency else whole

    return {segment: dict(pair for name in HEADLINE for pair in drawn(name, segment)) for segment in SEGMENTS}


def exposed(workers: Iterable[list[Figures]]) -> list[dict[str, str]]:
    """List the series of workers as they expose them, each with its `job` and `instance`."""
    series = []
    for number, partitions in enumerate(workers):
        metrics = Metrics(CollectorRegistry())
        metrics.portfolio(partitions)
        for family in metrics.registry.collect():
            if family.name.startswith("churnwatch_portfolio_"):
                series += [
                    {"series": labelled(sample.name, job="churn", instance=str(number), **sample.labels), "values": f"{sample.value!r}x2"}
                    for sample in family.samples
                ]
    return series


def labelled(name: str, **labels: str) -> str:
    """Write a series as Prometheus does."""
    pairs = [f'{label}="{value}"' for label, value in labels.items()]
    return f"{name}{{{','.join(pairs)}}}"


def expected(rule: str, partitions: list[Figures]) -> list[dict[str, Any]]:
    """List what the catalogue says of the figures of all partitions, by the labels of a rule; without what is null."""
    found = re.fullmatch(r"(segment|portfolio):churnwatch_(\w+):ratio", rule)
    assert found is not None, rule
    kpi = KPIS[found[2]]
    samples = []
    for segments in [[segment] for segment in SEGMENTS] if found[1] == "segment" else [SEGMENTS]:
        parts = add_up({read_key(text): value for text, value in each[segment].items()} for each in partitions for segment in segments)
        for currency in CURRENCIES if any(FIGURES[name].is_money for name in kpi.figures) else ("",):
            reading = kpi.value(Book(parts, currency=currency))
            assert isinstance(reading, Reading)
            if reading.value is None:
                continue
            value = Fraction(reading.value) / {"percent": 100, "money": scale(currency or "USD")}.get(kpi.unit, 1)
            labels = (
                {"job": "churn"} | ({"segment": segments[0]} if len(segments) == 1 else {}) | ({"currency": currency} if currency else {})
            )
            samples.append({"labels": labelled(rule, **labels), "value": float(value)})
    return samples


def test_the_rules_are_rules() -> None:
    """Prometheus takes the file, and each ratio is there by segment and over all of them."""
    promtool("check", "rules", RULES)
    names = [rule["record"] for rule in rules()]
    assert len(set(names)) == len(names)
    assert {name.removeprefix("segment") for name in names if name.startswith("segment:")} == {
        name.removeprefix("portfolio") for name in names if name.startswith("portfolio:")
    }


def test_every_ratio_is_that_of_the_catalogue(tmp_path: Path) -> None:
    """Of two workers with three partitions: by segment and in all; a segment with nothing to divide by has no series."""
    rng = Random(5)
    workers = [[random_figures(rng), random_figures(rng)], [random_figures(rng)]]
    everything = [partition for worker in workers for partition in worker]
    tests = []
    for rule in rules():
        samples = expected(rule["record"], everything)
        assert samples, rule
        assert not any("empty" in sample["labels"] for sample in samples)
        tests.append({"expr": rule["record"], "eval_time": "1m", "exp_samples": samples})
    nothing: list[Figures] = [{segment: dict.fromkeys(figures, 0) for segment, figures in each.items()} for each in everything]
    silent = [{"expr": rule["record"], "eval_time": "1m", "exp_samples": expected(rule["record"], nothing)} for rule in rules()]
    assert not any(test["exp_samples"] for test in silent)
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {"name": "drawn", "interval": "1m", "input_series": exposed(workers), "promql_expr_test": tests},
            {"name": "zero", "interval": "1m", "input_series": exposed([nothing]), "promql_expr_test": silent},
        ],
    }
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    promtool("test", "rules", file)
