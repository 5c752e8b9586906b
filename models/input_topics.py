"""The input topics that an account's state is folded from, and the place of each in a row."""

USAGE = "usage-events"
TICKETS = "ticket-events"
PAYMENTS = "payment-events"
ACCOUNTS = "account-events"
SURVEYS = "survey-events"

INPUT_TOPICS: tuple[str, ...] = (USAGE, TICKETS, PAYMENTS, ACCOUNTS, SURVEYS)
"""The order is the stored one: add at the end, never reorder."""

COMMANDS = "account-commands"

FOLDED_TOPICS: tuple[str, ...] = (*INPUT_TOPICS, COMMANDS)
"""All that a partition folds: what happens to its accounts, and what is decided for all of them (`models.commands`)."""

TOPIC_INDEX: dict[str, int] = {name: index for index, name in enumerate(INPUT_TOPICS)}
