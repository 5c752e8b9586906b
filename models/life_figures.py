"""The figures of a month that the life of an account gives (docs/state.md section 5d), from what is kept of it and its ledger: pure."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from models.facts import Facts
from models.kpi.figures import MICRO, Key, read_key
from models.ledger import Calendar, Figures, Valuation
from models.lifecycle import Lifecycle, Signup, Trial, counts_of, renewals
from models.parts import END_OF_TIME, oldest
from models.times import DAY_US

GRACE_US = 14 * DAY_US
"""How long after the end of a trial an account may begin to pay for it to have converted."""

SOON_US = 90 * DAY_US
"""How long before its renewal a contract is looked at."""

_CARDS = {1: "card", 0: "no_card", None: "unknown"}
_STATES = {"renewed": "renewed", "expanded": "renewed", "contracted": "renewed", "lapsed": "lapsed", "cancelled": "cancelled"}

DEFAULT = "default"
"""The checklist of steps that name none."""

Checklists = Sequence[tuple[str, Sequence[str]]]
"""Names and steps, in their order."""

Spans = Sequence[tuple[int, int]]
"""When an account paid, `[start, end)`, in order."""


def month_figures(facts: Facts, paying: Spans | None, valuation: Valuation, calendar: Calendar) -> dict[int, Figures]:
    """The figures of an account by month, as of the calendar's `now`; those that are 0 may be absent.

    `paying` is when it paid, None when there is nothing to tell it by: then the trials themselves say whether they converted.
    """
    life, now = facts.life, calendar.now
    found: dict[int, Counter[Key]] = {month: Counter() for month in range(calendar.first, calendar.last + 1)}
    for month, figures in life.settled.items():
        if month in found:
            found[month].update({read_key(text): count for text, count in figures.items()})
    for at, text in _counts(life):
        if at <= now and (month := calendar.month_of(at)) in found:
            found[month][read_key(text)] += 1
    for trial in life.trials.values():
        _count_trial(trial, paying, calendar, found)
    _count_renewals(life, valuation, calendar, found)
    since, gone_at = facts.since, _gone_at(facts)
    for month, ends in zip(found, calendar.starts[1:], strict=True):
        if since <= min(ends - 1, now) < gone_at:
            found[month][Key("accounts")] = 1
    return {month: dict(figures) for month, figures in found.items()}


def _counts(life: Lifecycle) -> Iterator[tuple[int, str]]:
    visitors: set[str] = set()
    for _, signup in sorted(life.signups.items(), key=lambda item: (item[1].at, item[0])):
        if signup.visitor_id not in visitors:
            yield from counts_of(signup)
        if signup.visitor_id is not None:
            visitors.add(signup.visitor_id)
    for objects in (life.referrals, life.touchpoints, life.recommendations):
        for one in objects.values():
            yield from counts_of(one)


def _count_trial(trial: Trial, paying: Spans | None, calendar: Calendar, found: dict[int, Counter[Key]]) -> None:
    start, deadline = _started(trial), _deadline(trial)
    if start is None or start > calendar.now or (month := calendar.month_of(start)) not in found:
        return
    card = _CARDS[None if trial.card is None else trial.card.value]
    found[month][Key("trials_started", card)] += 1
    if deadline is not None and deadline <= calendar.now:
        found[month][Key("trials_matured", card)] += 1
        found[month][Key("trials_converted", card)] += _is_converted(trial, start, deadline, paying)


def _started(trial: Trial) -> int | None:
    return trial.started_at if trial.starts is None else trial.starts.value


def _deadline(trial: Trial) -> int | None:
    ends = trial.ended_at if trial.ends is None else trial.ends.value
    return None if ends is None else ends + GRACE_US


def _is_converted(trial: Trial, start: int, deadline: int, paying: Spans | None) -> bool:
    """Whether the account began to pay in time; where it paid before, or nobody knows, whether the trial says that it converted."""
    if paying is not None:
        place = bisect_right(paying, (start, -1))
        if place < len(paying) and paying[place][0] <= deadline:
            return True
        if not place or paying[place - 1][1] <= start:
            return False
    return trial.converted_at is not None and trial.converted_at <= deadline


def _count_renewals(life: Lifecycle, valuation: Valuation, calendar: Calendar, found: dict[int, Counter[Key]]) -> None:
    if not life.terms and not life.outcomes:
        return
    for renewal in renewals(life, calendar.now):
        month = calendar.month_of(renewal.due)
        if renewal.due > calendar.now or month not in found:
            continue
        states = ["due", *({_STATES[renewal.outcome]} if renewal.outcome is not None else ())]
        mrr = None if renewal.term is None else renewal.term.mrr
        for state in states:
            found[month][Key(f"renewals_{state}")] += 1
            if mrr is not None:
                worth = valuation.value(mrr.currency, mrr.amount_minor * MICRO, renewal.due)
                found[month][Key(f"mrr_renewals_{state}", "", valuation.reporting(mrr.currency))] += worth


def acquired(signup: Signup | None, new: dict[int, Figures], revenue: dict[int, Figures]) -> dict[int, Figures]:
    """How a customer came: what its first signup adds to the months in which it was new, and in which it paid."""
    found: dict[int, Figures] = {}
    is_referred = signup is not None and signup.referred_by is not None and not signup.is_self
    channel = "unknown" if signup is None or not signup.channel else signup.channel
    for month, figures in new.items():
        if figures.get(Key("customers_new")):
            found[month] = {Key("customers_new_by_channel", channel): 1}
            if is_referred:
                found[month][Key("customers_new_referred")] = 1
    for month, figures in revenue.items() if is_referred else ():
        for key, amount in figures.items():
            if key.name in ("revenue_paid", "revenue_refunded"):
                own = found.setdefault(month, {})
                total = Key("revenue_referred", "", key.currency)
                own[total] = own.get(total, 0) + (amount if key.name == "revenue_paid" else -amount)
    return found


def onboarding(facts: Facts, checklists: Checklists, calendar: Calendar) -> dict[int, Figures]:
    """How far an account is with the checklists that it has begun and not finished, as each month ends."""
    found: dict[int, Figures] = {}
    steps = facts.life.steps if checklists else {}
    gone_at = _gone_at(facts)
    for number, ends in enumerate(calendar.starts[1:] if steps else ()):
        stop = min(ends - 1, calendar.now)
        until = ends if stop < calendar.now else calendar.day_begins(calendar.now)
        for name, order in checklists:
            done = [(place, at) for place, at in enumerate(_reached(facts.life, name, order), 1) if at <= stop]
            if done and done[-1][0] < len(order) and stop < gone_at:
                own = found.setdefault(calendar.first + number, {Key("onboarding_accounts"): 1})
                for figure, amount in (
                    ("onboarding_steps_done", done[-1][0]),
                    ("onboarding_steps", len(order)),
                    ("onboarding_position_days", max(until - done[-1][1], 0) // DAY_US),
                ):
                    own[Key(figure)] = own.get(Key(figure), 0) + amount
    return found


def _reached(life: Lifecycle, checklist: str, order: Sequence[str]) -> list[int]:
    """When each step of a checklist was completed; the end of time for those that were not."""
    names = (checklist, "") if checklist == DEFAULT else (checklist,)
    return [min((life.steps[key].at for name in names if (key := f"{name}\0{step}") in life.steps), default=END_OF_TIME) for step in order]


def _gone_at(facts: Facts) -> int:
    deleted = facts.numbers.get("is_deleted")
    return deleted.at if deleted is not None and deleted.value == 1 else END_OF_TIME


def renewing(facts: Facts, mrr: Figures, valuation: Valuation, now: int) -> Figures:
    """The MRR that renews within 90 days: of the terms that end by then, where they say one, else all that the account has (`mrr_end`)."""
    found: Figures = {}
    due = [each for each in renewals(facts.life, now) if now < each.due <= now + SOON_US and each.outcome is None and each.term is not None]
    for told in [each.term.mrr for each in due if each.term is not None and each.term.mrr is not None]:
        key = Key("mrr_renewing_at_risk", "", valuation.reporting(told.currency))
        found[key] = found.get(key, 0) + valuation.value(told.currency, told.amount_minor * MICRO, now)
    if due and not found:
        found = {Key("mrr_renewing_at_risk", "", key.currency): amount for key, amount in mrr.items() if key.name == "mrr_end"}
    return found


def changes_next(facts: Facts, now: int) -> int:
    """The least instant after `now` at which the figures may change with no event; the end of time when there is none."""
    life = facts.life
    later = [facts.since]
    later += [number.at for number in facts.numbers.values()]
    later += [at for at, _ in _counts(life)]
    later += [step.at for step in life.steps.values()]
    later += [at for trial in life.trials.values() for at in (_started(trial), _deadline(trial)) if at is not None]
    later += [at for term in life.terms.values() for at in (term.end, term.end - SOON_US)]
    later += [term.start.value for term in life.terms.values() if term.start is not None]
    later += [at for one in life.outcomes.values() for at in (one.at, one.end) if at is not None]
    return oldest(at for at in later if at > now)
