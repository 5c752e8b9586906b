"""The chaos harness: faults from a seed, under traffic, on a real broker; a history of everything; a verdict that can be had again.

    python -m tests.chaos list                  what there is
    python -m tests.chaos run kills --seed 7    one scenario
    python -m tests.chaos run --short           all of them, fewer faults
    python -m tests.chaos verify DIR            the verdict on a run that was kept, once more

`schedule` draws what happens from the seed, `stage` does it, `acts` are the faults, `history` writes down what was seen, `judge`
holds that against what was promised, `run` puts them together. docs/chaos.md says what each scenario is.
"""
