"""Support."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

from models.kpi import tickets
from models.kpi.exact import Reading
from models.kpi.portfolio.book import Direction, Kpi, Options, as_count, by_number, section

MEDIAN, P90 = Fraction(1, 2), Fraction(9, 10)


def _duration(quantile: Fraction) -> Callable[..., Reading]:
    """A quantile of durations that are over and, where there are any, of those that still run, which are said beside it."""

    def made(over: Mapping[str, int], running: Mapping[str, int] | None = None) -> Reading:
        ended, waiting = by_number(over), by_number(running or {})
        merged = {least: ended.get(least, 0) + waiting.get(least, 0) for least in {*ended, *waiting}}
        found = tickets.duration(merged, quantile)
        return found if running is None else Reading(found.value, found.reason, found.n, None, {"waiting": sum(waiting.values())})

    return made


def _fcr(options: Options, resolved: int, solved: int, received: int, abandoned: int, cross: int) -> Reading:
    return tickets.first_contact_resolution(
        resolved,
        solved,
        received,
        abandoned,
        cross,
        denominator=options.fcr_denominator,
        count_abandoned=options.count_abandoned,
        count_cross_department=options.count_cross_department,
    )


def kpis() -> Iterator[Kpi]:
    """Support."""
    counts: tuple[tuple[str, str, str], ...] = (
        ("tickets_created", "Tickets created", "tickets created in the month"),
        ("tickets_solved", "Tickets solved", "tickets solved in the month"),
        ("tickets_closed", "Tickets closed", "tickets closed in the month"),
        ("tickets_reopened", "Tickets reopened", "times that a ticket was opened again"),
        ("tickets_abandoned", "Calls abandoned", "calls that ended while waiting"),
        ("tickets_open", "Backlog", "open tickets as the month ends"),
        ("tickets_open_urgent", "Open urgent tickets", "open tickets of priority high or urgent"),
    )
    better: dict[str, Direction | None] = {"tickets_created": None, "tickets_solved": "up", "tickets_closed": "up"}
    yield from section(
        "support", *((name, title, "count", better.get(name, "down"), "S3", words, (name,), as_count) for name, title, words in counts)
    )
    yield from section(
        "support",
        (
            "tickets_per_100_users",
            "Tickets per 100 active users",
            "ratio",
            None,
            "Mattermost",
            "tickets created in 28 days × 100 / users active in 28 days; none is not the best that can be",
            ("tickets_created_28d", "active_users_28d"),
            tickets.per_hundred_users,
        ),
        (
            "tickets_open_urgent_age",
            "Age of open urgent tickets",
            "seconds",
            "down",
            "PostHog",
            "mean time that open tickets of priority high or urgent have been open",
            ("tickets_open_urgent_seconds", "tickets_open_urgent"),
            tickets.mean_age,
        ),
        (
            "first_response_median",
            "First response, median",
            "seconds",
            "down",
            "S3",
            "median of the time to the first public reply, tickets that still wait with their time so far (within 1.6 %)",
            ("first_responses", "first_responses_waiting"),
            _duration(MEDIAN),
        ),
        (
            "first_response_p90",
            "First response, p90",
            "seconds",
            "down",
            "S3",
            "the time that nine of ten tickets were first answered in, those that still wait with their time so far (within 1.6 %)",
            ("first_responses", "first_responses_waiting"),
            _duration(P90),
        ),
        (
            "resolution_median",
            "Resolution time, median",
            "seconds",
            "down",
            "S3",
            "median of the time to the solution, from the last opening (within 1.6 %)",
            ("resolutions",),
            _duration(MEDIAN),
        ),
        (
            "resolution_p90",
            "Resolution time, p90",
            "seconds",
            "down",
            "S3",
            "the time that nine of ten tickets were solved in (within 1.6 %)",
            ("resolutions",),
            _duration(P90),
        ),
        (
            "tickets_closed_per_agent",
            "Tickets closed per agent",
            "ratio",
            "up",
            "S3",
            "tickets closed by agents that are known / those agents",
            ("tickets_closed_by_agent",),
            lambda closed: tickets.closed_per_agent(
                sum(count for agent, count in closed.items() if agent != "unknown"), len(closed.keys() - {"unknown"})
            ),
        ),
    )
    yield from section(
        "support",
        (
            "first_contact_resolution",
            "First contact resolution",
            "percent",
            "up",
            "S3, HubSpot",
            "solved with one public reply, by one department, not reopened in 7 days / solved, those of the last 7 days left out",
            ("fcr_resolved", "fcr_solved", "fcr_received", "tickets_abandoned", "fcr_resolved_cross_department"),
            _fcr,
        ),
        has_options=True,
        rare=frozenset({"tickets_abandoned"}),
    )
