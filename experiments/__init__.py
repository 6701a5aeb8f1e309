"""Experiments, one per file: a frozen `Config` and `main(config)`.

`python -m experiments.speed --help`.
"""
