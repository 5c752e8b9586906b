"""Who uses an account's product, and on which days (docs/state.md section 2a), for many accounts at once.

Of a user 16 bytes are kept: 47 bits of a hash of the user id (below a bit that is 0), the user's newest day (16 bits, days since 1970),
and a mask of 64 bits: bit `i` says that the user was active `i` days before that, the highest one that there was a day before all of
these. Of 10,000 users of an account two are taken for one with a chance of about 1 in 3 million.

An account's users are a part of their own, sorted by hash, and a part is written whole. So that a user's first event of a day does not have
it written again, a row has room for the last `VISITS` of these (user and day); only when they are that many they are taken into the part.
What is known of an account are both together.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from models.columns import SEEN_BITS, Columns
from models.fixed import Ints
from models.row import VISITS
from models.times import DAY_US

PART: Final = "users"
USERS_MAX: Final = 10_000
"""Users that an account keeps; when there are more, every second one is let go of, by hash, and those that are kept stand for all."""

KEEP_DAYS: Final = 400
"""A user who was silent for more days than this and comes back is a new one."""

MASK_DAYS: Final = 63
"""Days that a mask holds: two windows of 28 and the 7 days that an event may be late."""

EARLIER: Final = 1 << MASK_DAYS
"""The bit of a mask that says that there was a day before those of the mask."""

_DAYS: Final = np.uint64((1 << MASK_DAYS) - 1)
_EARLIER: Final = np.uint64(EARLIER)
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_DAY_BITS: Final = np.uint64(16)
_DAY_MAX: Final = 0xFFFF
_DAY: Final = np.uint64(_DAY_MAX)
_WHO_BITS: Final = np.uint64(48)
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_PLACE_SHIFT: Final = np.uint64(64 - SEEN_BITS)
_GONE_DAYS: Final = KEEP_DAYS + 7
"""Users who were silent for so long are dropped from the part: not even a late event is near enough to their last one."""

_AT_ONCE: Final = 1 << 15
"""Accounts whose users are handled at once: the place of one of them and a hash fit into 64 bits."""

_SIZE_BITS: Final = 4
"""16 bytes of a user, as a shift."""

_WHO_SHIFT: Final = np.uint64(17)
"""Bits of a hash of 64 that are not kept."""

_NOBODY: Final = np.uint64(xxh3_64_intdigest(b"") >> 17)
"""The hash of an event that names no user."""

Words = NDArray[np.uint64]
"""Users, `(n, 2)`: hash and newest day, and mask."""


class Users(NamedTuple):
    """The users of some accounts: those of account `i` are `words[starts[i] : starts[i + 1]]`, sorted by hash."""

    words: Words
    starts: Ints

    @property
    def who(self) -> NDArray[np.uint64]:
        """The hash of each user."""
        return self.words[:, 0] >> _DAY_BITS

    @property
    def newest(self) -> Ints:
        """The newest day of each user."""
        return (self.words[:, 0] & _DAY).astype(np.int64)

    @property
    def masks(self) -> NDArray[np.uint64]:
        """The mask of each user."""
        return self.words[:, 1]

    @property
    def keys(self) -> NDArray[np.uint64]:
        """The place of each user's account, and the hash below it: they ascend."""
        places = np.arange(len(self.starts) - 1, dtype=np.uint64) << _WHO_BITS
        return np.repeat(places, np.diff(self.starts)) | self.who

    @property
    def account(self) -> Ints:
        """The place of each user's account."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def hashes(names: list[str]) -> NDArray[np.uint64]:
    """The hash of each user id, 47 bits; one of its own for an empty one."""
    digests = np.frombuffer(b"".join(map(xxh3_64_digest, map(str.encode, names))), ">u8")
    return digests.astype(np.uint64) >> _WHO_SHIFT


def seat(columns: Columns, slots: Ints, times: Ints, seats: Ints) -> None:
    """Take the seats that applied gauges tell, each `(n,)`: the newest one counts, of several at one instant the one with the most."""
    for slot, at, count in zip(slots.tolist(), times.tolist(), seats.tolist(), strict=True):
        if (at, count) > (int(columns.seats_at[slot]), int(columns.seats[slot])):
            columns.seats_at[slot], columns.seats[slot] = at, count


def fold(columns: Columns, slots: Ints, times: Ints, who: NDArray[np.uint64]) -> list[int]:
    """Take applied uses that name a user, in the order of the log; the slots of the accounts whose part changed.

    `slots`, `times` (microseconds) and `who` (of `hashes`) are `(n,)`. A use before 1970 or after 2149 is nobody's.
    """
    days = times // DAY_US
    named = (who != _NOBODY) & (days >= 0) & (days <= _DAY_MAX)
    if not named.all():
        slots, days, who = slots[named], days[named], who[named]
    changed: list[int] = []
    for start in range(0, len(slots), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found, entries = _unseen(columns, slots[part], who[part] << _DAY_BITS | days[part].astype(np.uint64))
        if len(found):
            found, entries = _unknown(columns, found, entries)
        if len(found):
            changed += _append(columns, found, entries)
    return changed


def users_of(columns: Columns, slots: Ints) -> Users:
    """The users of some accounts (at most 32,768), those who were silent for too long left out; not to be changed."""
    users = _joined(columns, slots)
    counts = columns.visits_count[slots].astype(np.int64)
    if counts.any():
        is_pending = np.arange(VISITS) < counts[:, None]
        users = _merged(users, np.repeat(np.arange(len(slots)), counts), columns.visits[slots][is_pending])
    today = columns.used_at[slots] // DAY_US
    is_kept = users.newest >= today[users.account] - KEEP_DAYS
    level = columns.users_level[slots]
    if level.any():
        is_kept &= _is_sampled(users.who, level[users.account])
    return users if is_kept.all() else _only(users, is_kept)


def recent(users: Users, today: Ints) -> NDArray[np.uint64]:
    """The days of each user as seen from a day that is not before the newest of them: bit `i` is `i` days back, for 63 days.

    `today` is of each account, `(accounts,)`.
    """
    back = np.clip(today[users.account] - users.newest, 0, MASK_DAYS).astype(np.uint64)
    seen: NDArray[np.uint64] = (users.masks & _DAYS) << back & _DAYS
    return seen


def within(days: int) -> np.uint64:
    """The bits of the last so many days."""
    return np.uint64((1 << days) - 1)


def per_account(users: Users, values: NDArray[Any]) -> Ints:
    """What a value of each user adds up to in each account, `(accounts,)`; exact below 2^53."""
    return np.bincount(users.account, values, len(users.starts) - 1).astype(np.int64)


def days_of(newest: int, mask: int) -> list[int]:
    """The days that a mask tells apart, ascending."""
    return [newest - back for back in range(MASK_DAYS - 1, -1, -1) if mask >> back & 1]


def _unseen(columns: Columns, slots: Ints, entries: NDArray[np.uint64]) -> tuple[Ints, NDArray[np.uint64]]:
    """The users' days that were not met lately, each once, in their order.

    `columns.seen` remembers some that are known already: whatever is in it, nothing else is kept of an account for it.
    """
    marks = (slots.astype(np.uint64) * _SPREAD) ^ entries
    places = (marks * _SPREAD) >> _PLACE_SHIFT
    fresh = np.flatnonzero(columns.seen[places] != marks)
    if not len(fresh):
        return slots[:0], entries[:0]
    slots, entries, places, marks = slots[fresh], entries[fresh], places[fresh], marks[fresh]
    columns.seen[places] = marks
    if len(marks) > 1:
        _, first = np.unique(marks, return_index=True)
        if len(first) < len(marks):
            first.sort()
            return slots[first], entries[first]
    return slots, entries


def _unknown(columns: Columns, slots: Ints, entries: NDArray[np.uint64]) -> tuple[Ints, NDArray[np.uint64]]:
    """Those of distinct days of users that the state does not hold yet, and that are in the sample where there is one."""
    # What was taken into the part still stands in the places behind the count: it is known all the same.
    held = (columns.visits[slots] == entries[:, None]).view(np.uint64)  # eight truths in each
    is_new = (held[:, 0] | held[:, 1]) == 0
    level = columns.users_level[slots]
    if level.any():
        is_new &= _is_sampled(entries >> _DAY_BITS, level)
    if not is_new.all():
        slots, entries = slots[is_new], entries[is_new]
    accounts, index = np.unique(slots, return_inverse=True)
    users = _joined(columns, accounts)
    if not len(users.words):
        return slots, entries
    known = users.keys
    wanted = index.astype(np.uint64) << _WHO_BITS | entries >> _DAY_BITS
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    back = users.newest[place] - (entries & _DAY).astype(np.int64)
    is_set = users.masks[place] >> np.clip(back, 0, MASK_DAYS).astype(np.uint64) & _ONE
    unknown = (known[place] != wanted) | (back < 0) | (is_set == 0)
    return slots[unknown], entries[unknown]


def _is_sampled(who: NDArray[np.uint64], level: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a user is one of those that stand for all: at level `n` the lowest `n` bits of the hash are zero."""
    is_zero: NDArray[np.bool_] = (who & ((_ONE << level.astype(np.uint64)) - _ONE)) == 0
    return is_zero


def _joined(columns: Columns, slots: Ints) -> Users:
    """The parts of some accounts behind each other."""
    stored = columns.parts[PART].many(slots.tolist())
    starts = np.zeros(len(stored) + 1, np.int64)
    np.cumsum(list(map(len, stored)), out=starts[1:])
    starts >>= _SIZE_BITS
    return Users(np.frombuffer(b"".join(stored), "<u8").reshape(-1, 2), starts)


def _append(columns: Columns, slots: Ints, entries: NDArray[np.uint64]) -> list[int]:
    """Put users' days that are new into the rows, and what a row has no room for into the part; the slots of parts that changed."""
    order = np.argsort(slots, kind="stable")
    ordered, entries = slots[order], entries[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.append(starts, len(ordered)))
    accounts = ordered[starts]
    counts = columns.visits_count[accounts].astype(np.int64)
    rank = np.arange(len(ordered)) + np.repeat(counts - starts, sizes)
    total = counts + sizes
    full = np.flatnonzero(total >= VISITS)
    if not len(full):
        columns.visits.reshape(-1)[ordered * VISITS + rank] = entries
        columns.visits_count[accounts] = total
        return []
    stored = np.array(list(map(len, columns.parts[PART].many(accounts[full].tolist())))) >> _SIZE_BITS
    near = full[stored + total[full] > USERS_MAX]
    if len(near):
        for i in near.tolist():
            _append_slowly(columns, int(accounts[i]), entries[starts[i] : starts[i] + sizes[i]])
        is_far = np.repeat(~np.isin(np.arange(len(accounts)), near), sizes)
        slow: list[int] = accounts[near].tolist()
        return slow + (_append(columns, ordered[is_far], entries[is_far]) if is_far.any() else [])
    is_taken = rank < np.repeat(total - total % VISITS, sizes)
    taken = ordered[is_taken]
    is_pending = np.arange(VISITS) < counts[full, None]
    index = np.concatenate((np.repeat(np.arange(len(full)), counts[full]), np.searchsorted(accounts[full], taken)))
    days = np.concatenate((columns.visits[accounts[full]][is_pending], entries[is_taken]))
    order = np.argsort(index, kind="stable")
    _put(columns, accounts[full], index[order], days[order])
    columns.visits.reshape(-1)[ordered * VISITS + rank % VISITS] = entries  # of several for one place the last one stays
    columns.visits_count[accounts] = total % VISITS
    changed: list[int] = accounts[full].tolist()
    return changed


def _append_slowly(columns: Columns, slot: int, entries: NDArray[np.uint64]) -> None:
    """Do the same for one account row by row: who is in the sample must not depend on how the log is cut into batches."""
    account = np.array([slot])
    while len(entries):
        count = int(columns.visits_count[slot])
        head, entries = entries[: VISITS - count], entries[VISITS - count :]
        columns.visits[slot, count : count + len(head)] = head
        columns.visits_count[slot] = (count + len(head)) % VISITS
        if not columns.visits_count[slot]:
            _put(columns, account, np.zeros(VISITS, np.int64), columns.visits[slot])
            entries = entries[_is_sampled(entries >> _DAY_BITS, columns.users_level[slot])]


def _put(columns: Columns, accounts: Ints, index: Ints, entries: NDArray[np.uint64]) -> None:
    """Merge days of users into the parts of some accounts, let go of whom nobody has seen for long, and of some where they are too many."""
    level = columns.users_level[accounts]
    if level.any():
        sampled = _is_sampled(entries >> _DAY_BITS, level[index])
        index, entries = index[sampled], entries[sampled]
    users = _merged(_joined(columns, accounts), index, entries)
    account, newest = users.account, users.newest
    today = np.zeros(len(accounts), np.int64)
    np.maximum.at(today, account, newest)
    is_kept = newest >= today[account] - _GONE_DAYS
    while (many := np.bincount(account[is_kept], minlength=len(accounts)) > USERS_MAX).any():
        columns.users_level[accounts[many]] += 1
        is_kept &= _is_sampled(users.who, columns.users_level[accounts][account])
    if not is_kept.all():
        users = _only(users, is_kept)
    blob, shelf = users.words.tobytes(), columns.parts[PART]
    ends = (users.starts << _SIZE_BITS).tolist()
    for slot, start, stop in zip(accounts.tolist(), ends, ends[1:], strict=False):
        shelf.put(slot, blob[start:stop])


def _only(users: Users, is_kept: NDArray[np.bool_]) -> Users:
    counts = np.bincount(users.account[is_kept], minlength=len(users.starts) - 1)
    return Users(users.words[is_kept], np.concatenate(([0], np.cumsum(counts))))


def _merged(users: Users, index: Ints, entries: NDArray[np.uint64]) -> Users:
    """Users with more days of theirs, those of one user in the order of arrival; `index` is the place of each day's account."""
    known, words = users.keys, users.words.copy()
    whose = index.astype(np.uint64) << _WHO_BITS | entries >> _DAY_BITS
    while len(whose):
        wanted, first = np.unique(whose, return_index=True)
        days = entries[first] & _DAY
        places = np.searchsorted(known, wanted)
        met = np.flatnonzero(known[np.minimum(places, len(known) - 1)] == wanted) if len(known) else places[:0]
        words[places[met]] = _seen_again(words[places[met]], days[met])
        if len(met) < len(wanted):
            come = np.delete(np.arange(len(wanted)), met)
            new = np.column_stack((wanted[come] << _DAY_BITS | days[come], np.full(len(come), _ONE)))
            words = np.insert(words, places[come], new, axis=0)
            known = np.insert(known, places[come], wanted[come])
        if len(first) == len(whose):
            break
        whose, entries = np.delete(whose, first), np.delete(entries, first)
    counts = np.bincount((known >> _WHO_BITS).astype(np.int64), minlength=len(users.starts) - 1)
    return Users(words, np.concatenate(([0], np.cumsum(counts))))


def _seen_again(words: Words, days: NDArray[np.uint64]) -> Words:
    """Users with one more day each."""
    newest, masks = (words[:, 0] & _DAY).astype(np.int64), words[:, 1]
    ahead = days.astype(np.int64) - newest
    back = np.clip(-ahead, 0, MASK_DAYS).astype(np.uint64)
    step = np.clip(ahead, 0, MASK_DAYS).astype(np.uint64)
    days_before = masks & _DAYS
    # A shift by 64 is none in C: what falls off in a step of 0 is nothing, and in one of 63 days it is everything.
    fallen = np.where(step > 0, days_before >> np.clip(MASK_DAYS - step.astype(np.int64), 0, MASK_DAYS).astype(np.uint64), _ZERO) != 0
    moved = (days_before << step) & _DAYS | _ONE | np.where(fallen, _EARLIER, _ZERO) | masks & _EARLIER
    later = np.where(ahead > KEEP_DAYS, _ONE, moved)
    changed: Any = np.where(ahead > 0, later, masks | _ONE << back)
    return np.column_stack((words[:, 0] & ~_DAY | np.maximum(newest, days.astype(np.int64)).astype(np.uint64), changed))
