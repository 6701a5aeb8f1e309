"""Published ideas, one per file, with their claims as data and verdicts that commands measure.

A file defines what is the paper's own and `claims(scale=1.0)`, a list of `Claim`s.
`python -m experiments.papers NAME...` runs it, and writes `experiments/results/papers/NAME.json`
and the table in `experiments/papers/README.md`.
"""

from experiments.papers.claim import Arm, Check, Claim, beats, ratio, share

__all__ = ["Arm", "Check", "Claim", "beats", "ratio", "share"]
