"""One file per experiment: a frozen `Config`, what it runs, and what it shows.

`python -m experiments.speed --help`.
"""
