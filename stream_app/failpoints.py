"""Points at which a test makes the process end, to prove what a crash there leaves behind.

`CHURNWATCH_FAILPOINT=name:nth` ends the process with SIGKILL when the point `name` is passed for the n-th time. Without the variable
a point costs one look at an empty dictionary. The points, in the order in which a worker passes them:

- `in_rebalance`: the partitions are written and given up, the new assignment is not there yet; the first assignment counts, too
- `after_fencing`: the previous owners are fenced, nothing of the changelog is read
- `in_recovery`: some of the changelog is in the local store, some is not
- `after_fold`, `in_transaction`, `after_commit`, `after_store`: the steps of a checkpoint
- `in_shutdown`: everything is written, the group is not left

Those of `churnwatch rebuild` and `churnwatch snapshot import`: `witnessed` (the group's offsets are set, the old changelog is there),
`replaced` (the changelog is made anew and empty), `marked`, `portion_written`, `partition_written`.
"""

import os
import signal

_VARIABLE = "CHURNWATCH_FAILPOINT"


def _armed() -> dict[str, int]:
    spec = os.environ.get(_VARIABLE, "")
    if not spec:
        return {}
    name, _, nth = spec.partition(":")
    return {name: int(nth or "1")}


_left = _armed()


def failpoint(name: str) -> None:
    """Pass a point; the n-th passing of the armed one is the last thing that this process does."""
    if not _left:
        return
    if name in _left:
        _left[name] -= 1
        if _left[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
