"""The life of an account (docs/state.md section 5b): users, trials, signups, terms, referrals, contacts; folded one event at a time.

What several events say of one thing is a last write by `(time, id)`, a least or a greatest time: the order of arrival decides nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from models import events
from models.kpi.figures import key_of
from models.monthly import MONTHS_KEPT
from models.months import month_of
from models.parts import END_OF_TIME, KEEP_US, Number, Write, let_go, oldest, rank, wins, write, write_number
from models.times import DAY_US, parse_us

TWO_WAY = frozenset({"meeting", "qbr", "call"})
"""Kinds of contact in which both sides speak; of the others only what came in is an answer."""

IN_VAIN = frozenset({"no_show", "no_answer", "voicemail", "cancelled", "canceled"})
"""Outcomes of a contact that was none."""

PULSE = {"red": 0, "yellow": 50, "green": 100, 1: 0, 2: 25, 3: 50, 4: 75, 5: 100}
"""The CSM's pulse in points."""

LEADERS = frozenset({"champion", "sponsor"})


class User(msgspec.Struct, array_like=True, gc=False):
    """A user of the account: whether they are there (1 or 0), and their role."""

    presence: Number | None = None
    role: Write | None = None

    @property
    def is_there(self) -> bool:
        """Whether nobody said that they left."""
        return self.presence is None or self.presence.value == 1

    @property
    def until(self) -> int:
        """When they left; the end of time while they are there."""
        return END_OF_TIME if self.is_there or self.presence is None else max(self.presence.at, 0 if self.role is None else self.role.at)


class Trial(msgspec.Struct, array_like=True, gc=False):
    """A trial. Times are microseconds; `card` is 1 with a card on file, 0 without."""

    newest_at: int
    started_at: int | None = None
    starts: Number | None = None
    ends: Number | None = None
    card: Number | None = None
    converted_at: int | None = None
    ended_at: int | None = None

    @property
    def until(self) -> int:
        """Its end, or its newest event when that is later."""
        return self.newest_at if self.ends is None else max(self.newest_at, self.ends.value)


class Signup(msgspec.Struct, array_like=True, gc=False):
    """The first signup of a user, by `(time, id)`.

    `is_self`: they were referred by themselves, or by their own account. `is_same`: an earlier signup of the visitor has been counted.
    """

    at: int
    id: str
    channel: str | None = None
    referred_by: str | None = None
    visitor_id: str | None = None
    is_self: bool = False
    is_same: bool = False

    @property
    def until(self) -> int:
        """When it was."""
        return self.at


class Amount(msgspec.Struct, array_like=True, gc=False):
    """An amount of money and its last write."""

    amount_minor: int
    currency: str
    at: int
    id: str


class Term(msgspec.Struct, array_like=True, gc=False):
    """A term of a contract, by the contract's id and the term's end, at which its renewal is due."""

    newest_at: int
    contract_id: str
    end: int
    start: Number | None = None
    mrr: Amount | None = None

    @property
    def until(self) -> int:
        """Its end, or its newest event when that is later."""
        return max(self.newest_at, self.end)


class Outcome(msgspec.Struct, array_like=True, gc=False):
    """What became of a renewal, as one event told."""

    at: int
    contract_id: str
    outcome: str | None = None
    start: int | None = None
    end: int | None = None
    amount_minor: int | None = None
    currency: str | None = None

    @property
    def until(self) -> int:
        """The latest time in it."""
        return max(self.at, self.start or self.at, self.end or self.at)


class Referral(msgspec.Struct, array_like=True, gc=False):
    """A referral that the account made; `is_self`: of itself."""

    newest_at: int
    made_at: int | None = None
    converted_at: int | None = None
    referred: Write | None = None
    is_self: bool = False

    @property
    def until(self) -> int:
        """When it was heard of last."""
        return self.newest_at


class Touchpoint(msgspec.Struct, array_like=True, gc=False):
    """A contact between the CSM and the account."""

    at: int
    kind: str
    is_two_way: bool = False

    @property
    def until(self) -> int:
        """When it was."""
        return self.at


class Recommendation(msgspec.Struct, array_like=True, gc=False):
    """Something that the CSM recommended."""

    newest_at: int
    made_at: int | None = None
    actioned_at: int | None = None

    @property
    def until(self) -> int:
        """When it was heard of last."""
        return self.newest_at


class Step(msgspec.Struct, array_like=True, gc=False):
    """A step of the onboarding, and when it was completed first."""

    at: int

    @property
    def until(self) -> int:
        """Steps stay."""
        return END_OF_TIME


class Features(msgspec.Struct, array_like=True, gc=False):
    """The features that the account is entitled to, as they were told last."""

    names: tuple[str, ...]
    at: int
    id: str


class Lifecycle(msgspec.Struct, array_like=True, gc=False):
    """What is kept of an account's life; objects by their ids, those that have none by the rank of their event.

    `settled` is what those that were let go count for: figures by month (docs/state.md section 5d).
    """

    users: dict[str, User] = {}
    trials: dict[str, Trial] = {}
    signups: dict[str, Signup] = {}
    steps: dict[str, Step] = {}
    terms: dict[str, Term] = {}
    outcomes: dict[str, Outcome] = {}
    referrals: dict[str, Referral] = {}
    touchpoints: dict[str, Touchpoint] = {}
    recommendations: dict[str, Recommendation] = {}
    pulse: Number | None = None
    features: Features | None = None
    contact_at: int | None = None
    champion_left_at: int | None = None
    acquired: Signup | None = None
    settled: dict[int, dict[str, int]] = {}


def fold(life: Lifecycle, event: Any, at: int) -> None:
    """Take one account event into the account's life; types that say nothing of it change nothing."""
    change = _CHANGES.get(type(event))
    if change is not None:
        change(life, event, at)


def _add_user(life: Lifecycle, event: events.UserAdded | events.UserRemoved, at: int) -> None:
    user = life.users.setdefault(event.data.user_id, User())
    user.presence = write_number(user.presence, int(isinstance(event, events.UserAdded)), at, rank(event))
    if event.data.role is not None:
        user.role = write(user.role, event.data.role, at, rank(event))


def _change_role(life: Lifecycle, event: events.UserRoleChanged, at: int) -> None:
    user = life.users.setdefault(event.data.user_id, User())
    user.role = write(user.role, event.data.role, at, rank(event))


def _lose_champion(life: Lifecycle, event: events.ChampionLeft, at: int) -> None:
    user = life.users.setdefault(event.data.user_id, User())
    user.presence = write_number(user.presence, 0, at, rank(event))
    life.champion_left_at = _greatest(life.champion_left_at, at)


def _sign_up(life: Lifecycle, event: events.SignupCompleted, at: int) -> None:
    data = event.data
    is_self = data.referred_by in (event.subject, data.user_id)
    signup = Signup(at, rank(event), data.channel, data.referred_by, data.visitor_id, is_self)
    known = life.signups.get(data.user_id)
    if _is_first(known, signup):
        life.signups[data.user_id] = msgspec.structs.replace(signup, is_same=known is not None and known.is_same)
    if _is_first(life.acquired, signup):
        life.acquired = signup


def _is_first(known: Signup | None, signup: Signup) -> bool:
    return known is None or (signup.at, signup.id) < (known.at, known.id)


def _complete_step(life: Lifecycle, event: events.OnboardingStepCompleted, at: int) -> None:
    name = f"{event.data.checklist or ''}\0{event.data.step}"
    known = life.steps.get(name)
    life.steps[name] = Step(at if known is None else min(known.at, at))


def _try(life: Lifecycle, event: events.TrialStarted | events.TrialConverted | events.TrialEnded, at: int) -> None:
    data, name = event.data, rank(event)
    trial = life.trials.setdefault(data.trial_id, Trial(at))
    trial.newest_at = max(trial.newest_at, at)
    if data.starts_at is not None:
        trial.starts = write_number(trial.starts, parse_us(data.starts_at), at, name)
    if data.ends_at is not None:
        trial.ends = write_number(trial.ends, parse_us(data.ends_at), at, name)
    if data.card_on_file is not None:
        trial.card = write_number(trial.card, int(data.card_on_file), at, name)
    match event:
        case events.TrialStarted():
            trial.started_at = _least(trial.started_at, at)
        case events.TrialConverted():
            trial.converted_at = _least(trial.converted_at, at)
        case events.TrialEnded():
            trial.ended_at = _least(trial.ended_at, at)


def _term(life: Lifecycle, event: events.ContractSigned | events.RenewalDue, at: int) -> None:
    data = event.data
    if data.term_end is None:
        return
    end = parse_us(data.term_end)
    term = life.terms.setdefault(f"{data.contract_id}\0{end}", Term(at, data.contract_id, end))
    term.newest_at = max(term.newest_at, at)
    if data.term_start is not None:
        term.start = write_number(term.start, parse_us(data.term_start), at, rank(event))
    if data.mrr is not None and wins(term.mrr, at, rank(event)):
        term.mrr = Amount(data.mrr.amount_minor, data.mrr.currency, at, rank(event))


def _decide(life: Lifecycle, event: events.RenewalOutcome, at: int) -> None:
    data = event.data
    life.outcomes[rank(event)] = Outcome(
        at,
        data.contract_id,
        data.outcome,
        None if data.term_start is None else parse_us(data.term_start),
        None if data.term_end is None else parse_us(data.term_end),
        None if data.mrr is None else data.mrr.amount_minor,
        None if data.mrr is None else data.mrr.currency,
    )


def _refer(life: Lifecycle, event: events.ReferralMade | events.ReferralConverted, at: int) -> None:
    referral = life.referrals.setdefault(event.data.referral_id, Referral(at))
    referral.newest_at = max(referral.newest_at, at)
    if event.data.referred_account is not None:
        referral.referred = write(referral.referred, event.data.referred_account, at, rank(event))
        referral.is_self = referral.referred.value == event.subject
    if isinstance(event, events.ReferralMade):
        referral.made_at = _least(referral.made_at, at)
    else:
        referral.converted_at = _least(referral.converted_at, at)


def _touch(life: Lifecycle, event: events.TouchpointLogged, at: int) -> None:
    data = event.data
    is_two_way = (data.kind in TWO_WAY or (data.direction or "").lower() == "inbound") and (data.outcome or "").lower() not in IN_VAIN
    life.touchpoints[rank(event)] = Touchpoint(at, data.kind, is_two_way)
    if is_two_way:
        life.contact_at = _greatest(life.contact_at, at)


def _recommend(life: Lifecycle, event: events.RecommendationMade | events.RecommendationActioned, at: int) -> None:
    name = event.data.recommendation_id
    known = life.recommendations.setdefault(f"\0{rank(event)}" if name is None else name, Recommendation(at))
    known.newest_at = max(known.newest_at, at)
    if isinstance(event, events.RecommendationMade):
        known.made_at = _least(known.made_at, at)
    else:
        known.actioned_at = _least(known.actioned_at, at)


def _set_pulse(life: Lifecycle, event: events.CsmPulseSet, at: int) -> None:
    life.pulse = write_number(life.pulse, PULSE[event.data.value], at, rank(event))


def _entitle(life: Lifecycle, event: events.EntitlementChanged, at: int) -> None:
    if event.data.features is not None and wins(life.features, at, rank(event)):
        life.features = Features(tuple(sorted(set(event.data.features))), at, rank(event))


def _least(known: int | None, at: int) -> int:
    return at if known is None else min(known, at)


def _greatest(known: int | None, at: int) -> int:
    return at if known is None else max(known, at)


_CHANGES: dict[type, Callable[[Lifecycle, Any, int], None]] = {
    events.UserAdded: _add_user,
    events.UserRemoved: _add_user,
    events.UserRoleChanged: _change_role,
    events.ChampionLeft: _lose_champion,
    events.SignupCompleted: _sign_up,
    events.OnboardingStepCompleted: _complete_step,
    events.TrialStarted: _try,
    events.TrialConverted: _try,
    events.TrialEnded: _try,
    events.ContractSigned: _term,
    events.RenewalDue: _term,
    events.RenewalOutcome: _decide,
    events.ReferralMade: _refer,
    events.ReferralConverted: _refer,
    events.TouchpointLogged: _touch,
    events.RecommendationMade: _recommend,
    events.RecommendationActioned: _recommend,
    events.CsmPulseSet: _set_pulse,
    events.EntitlementChanged: _entitle,
}


LONGER_US = 800 * DAY_US
"""How long trials, terms and outcomes are kept: as long as their months are told of, because what becomes of one may come late."""


def _objects(life: Lifecycle) -> Iterator[tuple[dict[str, Any], int]]:
    """The objects of each kind, and how long they are kept after they lasted."""
    yield life.users, KEEP_US
    yield life.trials, LONGER_US
    yield life.signups, KEEP_US
    yield life.steps, KEEP_US
    yield life.terms, LONGER_US
    yield life.outcomes, LONGER_US
    yield life.referrals, KEEP_US
    yield life.touchpoints, KEEP_US
    yield life.recommendations, KEEP_US


def finished_at(life: Lifecycle) -> int:
    """The least time until which something is kept, as if all kinds were kept as long: old enough, `drop_old` has something to do."""
    return oldest(each.until + keep_us - KEEP_US for objects, keep_us in _objects(life) for each in objects.values())


def drop_old(life: Lifecycle, newest: int, zone: ZoneInfo) -> None:
    """Let go of what is old, or too many, and keep what it counts for by month; `newest` is the account's newest event of this topic."""
    found: dict[int, Counter[str]] = {}
    for objects, keep_us in _objects(life):
        gone = let_go(((each.until, name, True) for name, each in objects.items()), newest, keep_us)
        for name in sorted(gone, key=lambda name: (objects[name].until, name)):
            one = objects.pop(name)
            if isinstance(one, Signup) and one.visitor_id is not None:
                for other in objects.values():
                    other.is_same = other.is_same or other.visitor_id == one.visitor_id
            for at, figure in counts_of(one):
                found.setdefault(month_of(at, zone), Counter())[figure] += 1
    for month, figures in found.items():
        life.settled[month] = dict(Counter(life.settled.get(month, {})) + figures)
    if found:
        first = month_of(newest, zone) - MONTHS_KEPT
        life.settled = {month: figures for month, figures in life.settled.items() if month >= first}


def counts_of(one: Any) -> Iterator[tuple[int, str]]:
    """What an object counts for, at which time, as far as it follows from the object alone (docs/state.md section 5d)."""
    match one:
        case Signup() if not one.is_same:
            yield one.at, "signups"
            if one.referred_by is not None and not one.is_self:
                yield one.at, "signups_referred"
        case Referral() if not one.is_self:
            if one.made_at is not None:
                yield one.made_at, "referrals_made"
            if one.converted_at is not None:
                yield one.converted_at, "referrals_converted"
        case Touchpoint():
            yield one.at, str(key_of("touchpoints", label=one.kind))
        case Recommendation() if one.made_at is not None:
            yield one.made_at, "recommendations_made"
            if one.actioned_at is not None:
                yield one.made_at, "recommendations_actioned"
        case _:
            pass


class Renewal(NamedTuple):
    """A renewal: when it is due, what became of it (None while nothing did), and the term that it ends, where one is known."""

    contract_id: str
    due: int
    outcome: str | None
    term: Term | None


def renewals(life: Lifecycle, now: int) -> list[Renewal]:
    """Every renewal that is known of, as it stands at an instant, in the order of contracts and due dates."""
    terms: dict[str, dict[int, Term]] = {}
    for term in life.terms.values():
        terms.setdefault(term.contract_id, {})[term.end] = term
    decided: dict[tuple[str, int], tuple[int, str, str]] = {}
    for name, one in life.outcomes.items():
        if one.outcome is not None:
            of = (one.contract_id, _due_of(one, terms.get(one.contract_id, {})))
            decided[of] = max(decided.get(of, (one.at, name, one.outcome)), (one.at, name, one.outcome))
    found = []
    for contract_id, due in sorted({(contract_id, end) for contract_id, ends in terms.items() for end in ends} | decided.keys()):
        of_contract = terms.get(contract_id, {})
        outcome = decided[contract_id, due][2] if (contract_id, due) in decided else None
        if outcome is None and any(term.start is not None and due <= term.start.value <= now for term in of_contract.values()):
            outcome = "renewed"
        found.append(Renewal(contract_id, due, outcome, of_contract.get(due)))
    return found


def _due_of(one: Outcome, ends: dict[int, Term]) -> int:
    """When the renewal is due that an outcome is about."""
    for at in (one.end, one.start):
        if at is not None and at in ends:
            return at
    if ends:
        return min(ends, key=lambda end: (abs(end - one.at), end))
    return one.at if one.end is None else one.end


def people(life: Lifecycle) -> list[list[str]]:
    """The users who signed up, those of one visitor together: each is one person; in the order of their first signups."""
    persons: dict[str, list[str]] = {}
    for user_id, signup in sorted(life.signups.items(), key=lambda item: (item[1].at, item[1].id, item[0])):
        persons.setdefault(f"u{user_id}" if signup.visitor_id is None else f"v{signup.visitor_id}", []).append(user_id)
    return list(persons.values())


def has_leader(life: Lifecycle) -> bool:
    """Whether a champion or a sponsor is there."""
    return any(user.is_there and user.role is not None and user.role.value in LEADERS for user in life.users.values())


def champion_lost_at(life: Lifecycle) -> int | None:
    """When the champion left, as long as no other took the place; None when none left, or somebody did."""
    if any(user.is_there and user.role is not None and user.role.value == "champion" for user in life.users.values()):
        return None
    return life.champion_left_at
