"""What an account and we say to each other: tickets, calls, surveys, texts, touchpoints, advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy.simulate.decisions import Advised, Asked, Contact, GaveUp, Pulse, StepKind, Ticket, TicketStep, Wrote
from deploy.simulate.dice import DAY, HOUR, MINUTE, SECOND

if TYPE_CHECKING:
    from deploy.simulate.behaviour import Account

_CHANNELS: Final = (("email", 5), ("chat", 3), ("web", 2), ("phone", 1))
_KINDS: Final = (("question", 5), ("problem", 3), ("task", 1))
_PRIORITIES: Final = (("low", 20), ("normal", 58), ("high", 16), ("urgent", 6))
_DEPARTMENTS: Final = (("support", 7), ("billing", 2), ("engineering", 1))
_AGENTS: Final = ("ada", "ben", "chloe", "dev", "emma", "farid", "gus")
_LOUD: Final = ("high", "urgent")

_GOOD: Final = (
    "Love the new dashboards, they save us hours every week.",
    "Support was quick and friendly.",
    "Onboarding was easy and the team is happy.",
    "Reports are great, exactly what we needed.",
)
_MIXED: Final = (
    "It does what it should.",
    "The price is fair, but we miss an integration with our warehouse.",
    "Good product, slow exports.",
)
_BAD: Final = (
    "The export fails every other day and nobody answers.",
    "Too expensive for what it does.",
    "The last outage cost us a whole day, we are looking at a competitor.",
    "Setup was confusing and the documentation is out of date.",
)
_GERMAN: Final = ("Läuft gut, danke.", "Der Export ist leider sehr langsam.")


class _Course:
    """What happens to a ticket, one thing after the other."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.steps: list[TicketStep] = []

    def add(self, after: int, what: StepKind, who: str = "") -> None:
        """The next thing, so long after the one before."""
        self._at += max(after, SECOND)
        self.steps.append(TicketStep(self._at, what, who))


class Contacts:
    """The voice of an account."""

    def __init__(self, account: Account) -> None:
        self._account, self._dice = account, account.dice
        self._tickets = self._surveys = self._advice = 0

    def day(self, day: int, midnight: int) -> None:
        """What is said on a day."""
        account, dice = self._account, self._dice
        users = max(1, len(account.users))
        bad = 1.6 - account.health
        if dice.random() < (0.004 + 0.0012 * users) * bad * (0.3 + 0.7 * min(1.0, account.world.activity(day))):
            self._ticket(dice.office_hours(midnight), dice.weighted(_KINDS))
        incident = account.world.incidents.get(day)
        if incident is not None and account.is_hit and dice.chance(0.35):
            self._ticket(incident.at + dice.span(MINUTE, incident.lasts), "incident")
        if dice.random() < 0.0004 * bad:
            account.say(GaveUp(account.id, dice.office_hours(midnight), dice.between(30, 1500) * 1000))
        if day % 91 == account.number % 91:
            self._ask_everybody(midnight)
        rare = dice.random()
        if rare < (0.005, 0.02, 0.05)[account.size]:
            self._touch(dice.office_hours(midnight))
        elif rare > 0.998:  # noqa: PLR2004
            self._write(dice.office_hours(midnight))
        elif rare > 0.9965:  # noqa: PLR2004
            self._advise(dice.office_hours(midnight))

    # -- tickets

    def _ticket(self, at: int, kind: str) -> None:
        account, dice = self._account, self._dice
        self._tickets += 1
        name = f"ticket-{account.number:06}-{self._tickets}"
        user = dice.pick(account.users)[0] if account.users else f"user-{account.number:06}-0"
        priority = dice.weighted(_PRIORITIES) if kind != "incident" else dice.weighted((("high", 2), ("urgent", 1)))
        department = dice.weighted(_DEPARTMENTS)
        steps = self._course(at, priority, department)
        account.say(Ticket(account.id, at, name, user, dice.weighted(_CHANNELS), priority, kind, department, steps))  # type: ignore[arg-type]
        replied = [step.at for step in steps if step.what == "agent_reply"]
        if not replied or replied[0] - at > 8 * HOUR:
            account.shake(0.015)
        solved = [step.at for step in steps if step.what == "solved"]
        if solved and steps[-1].what in ("solved", "closed") and dice.chance(0.45):
            kinds: tuple[tuple[str, float], ...] = (("csat", 4), ("ces", 1))
            self._ask(solved[-1] + dice.span(MINUTE, HOUR), dice.weighted(kinds), user, 0.4, name)

    def _course(self, at: int, priority: str, department: str) -> tuple[TicketStep, ...]:
        """All that happens to a ticket, one second apart at least."""
        dice, fate = self._dice, self._dice.random()
        if fate < 0.02:  # noqa: PLR2004 - spam
            return (TicketStep(at + dice.span(MINUTE, 12 * DAY), "deleted"),)
        course = _Course(at)
        is_loud = priority in _LOUD
        if dice.chance(0.8):
            course.add(dice.span(MINUTE, HOUR), "assigned", dice.pick(_AGENTS))
        if dice.chance(0.04):
            course.add(dice.span(MINUTE, 3 * HOUR), "calm" if is_loud else "urgent")
        if fate < 0.04:  # noqa: PLR2004 - a duplicate of another
            course.add(dice.span(HOUR, 3 * DAY), "merged", f"{self._account.id}-elsewhere")
        elif fate < 0.996:  # noqa: PLR2004 - the others are never answered
            self._answer(course, department, is_loud=is_loud)
            if dice.chance(0.99):
                self._solve(course, department, is_loud=is_loud)
        return tuple(course.steps)

    def _after(self, median_hours: float, spread: float) -> int:
        return max(1, int(self._dice.around(median_hours * 3600, spread))) * SECOND

    def _answer(self, course: _Course, department: str, *, is_loud: bool) -> None:
        dice = self._dice
        course.add(self._after(0.7 if is_loud else 2.5, 1.0), "agent_reply", department)
        while dice.chance(0.35):
            course.add(self._after(3, 1.0), "customer_reply")
            other = dice.weighted(_DEPARTMENTS) if dice.chance(0.4) else department
            course.add(self._after(2, 1.0), "note" if dice.chance(0.15) else "agent_reply", other)

    def _solve(self, course: _Course, department: str, *, is_loud: bool) -> None:
        dice = self._dice
        course.add(self._after(6 if is_loud else 16, 0.9), "solved")
        while dice.chance(0.09):
            course.add(self._after(60, 0.8), "reopened")
            if dice.chance(0.7):
                course.add(self._after(3, 0.8), "agent_reply", department)
            course.add(self._after(18, 0.8), "solved")
        if dice.chance(0.7):
            course.add(4 * DAY, "closed")

    # -- surveys and texts

    def _ask_everybody(self, midnight: int) -> None:
        for user, _ in self._account.users:
            if self._dice.chance(0.3):
                self._ask(self._dice.office_hours(midnight), "nps", user, 0.33, None)

    def _ask(self, at: int, kind: str, user: str, answers: float, ticket: str | None) -> None:
        account, dice = self._account, self._dice
        self._surveys += 1
        scale = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7)}[kind]
        found: list[tuple[int, int]] = []
        if dice.chance(answers):
            answered = at + dice.span(MINUTE, 6 * DAY)
            found.append((answered, self._score(scale)))
            if dice.chance(0.05):
                found.append((answered + dice.span(HOUR, 3 * DAY), self._score(scale)))
        comment, language = self._text() if found and dice.chance(0.3) else (None, None)
        name = f"{kind}-{account.number:06}-{self._surveys}"
        account.say(Asked(account.id, at, name, kind, user, scale, tuple(found), comment, language, ticket))  # type: ignore[arg-type]

    def _score(self, scale: tuple[int, int]) -> int:
        least, most = scale
        where = 0.3 + 0.72 * self._account.health + 0.17 * self._dice.normal()
        return min(most, max(least, least + round((most - least) * where)))

    def _text(self) -> tuple[str, str | None]:
        dice, health = self._dice, self._account.health + 0.15 * self._dice.normal()
        if dice.chance(0.08):
            return dice.pick(_GERMAN), "de"
        texts = _GOOD if health > 0.7 else _MIXED if health > 0.5 else _BAD  # noqa: PLR2004
        return dice.pick(texts), "en"

    def _write(self, at: int) -> None:
        text, language = self._text()
        self._account.say(Wrote(self._account.id, at, self._dice.pick(("in_app", "email", "review")), text, language))

    # -- customer success

    def _touch(self, at: int) -> None:
        account, dice = self._account, self._dice
        kind = dice.weighted((("email", 5), ("call", 3), ("meeting", 2), ("qbr", 1)))
        direction = "inbound" if dice.chance(0.3) else "outbound"
        outcome = dice.weighted((("held", 6), ("no_answer", 1), (None, 3)))
        account.say(Contact(account.id, at, kind, direction, outcome))  # type: ignore[arg-type]
        if outcome == "held" and kind != "email":
            account.shake(-0.03)
            if dice.chance(0.3):
                value = min(5, max(1, round(1 + 4 * account.health + dice.normal())))
                account.say(Pulse(account.id, at + 10 * MINUTE, value))

    def _advise(self, at: int) -> None:
        self._advice += 1
        name = f"advice-{self._account.number:06}-{self._advice}"
        done = at + self._dice.span(DAY, 40 * DAY) if self._dice.chance(0.3 + 0.4 * self._account.health) else None
        self._account.say(Advised(self._account.id, at, name, done))
