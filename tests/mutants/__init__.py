"""Faults put into the product on purpose, and which test finds each: `make mutants`."""
