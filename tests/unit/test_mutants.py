"""The mutants of `make mutants` fit the product as it is, and name tests that there are."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

from tests.mutants.mutants import MUTANTS, Mutant
from tests.mutants.run import ROOT, mutated

_ASKED_FOR: Final = {
    "store-before-commit",
    "cursor-outside-the-transaction",
    "fence-after-the-end-was-read",
    "queue-cleared-after-the-seek",
    "decode-error-swallowed",
    "exception-acknowledged",
    "nan-not-filtered",
    "dedupe-dropped",
    "alert-id-from-the-clock",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_still_fits(mutant: Mutant) -> None:
    """Each of its texts occurs exactly once, and what it makes of the file is another program that can be read."""
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    ast.parse(mutated(mutant, source))
    assert mutated(mutant, source) != source


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_names_tests_that_there_are(mutant: Mutant) -> None:
    """Each test is a function of its file."""
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        tree = ast.parse(Path(ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_mutants_that_were_asked_for_are_there() -> None:
    """Each has a name of its own."""
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert set(names) >= _ASKED_FOR
