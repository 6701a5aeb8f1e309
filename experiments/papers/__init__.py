"""Published ideas, one per file, with their claims as data and verdicts that commands measure.

A file defines what is the paper's own and `claims(scale=1.0)`, a list of
`experiments.claims.Claim`. `python -m experiments.papers NAME...` runs it, and writes
`experiments/results/papers/NAME.json` and the table in `experiments/papers/README.md`.
"""
