"""Other ways to do a comparable, smaller job on the same broker and load: they tell what this machine can do.

The job (`job.py`, and the same in ChurnStreams.java): decode an event, keep 30 days of uses and a few counters of each account,
make 12 features of them, score the account with a weighted sum and a logistic function, say so when the risk crosses a line.
The worker does more: 98 days, identities against duplicates, tickets and invoices as objects, a published score, alerts with a
life of their own, all of it exactly once.
"""
