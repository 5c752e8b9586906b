"""Deciding something for all accounts: the same record into every partition of `account-commands`, and what has come of it."""
