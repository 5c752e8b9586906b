"""Tests of churnwatch."""
