"""Claims of papers as data, and the verdicts that are measured of them."""

from experiments.claims.claim import Arm, Check, Claim, beats, ratio, share

__all__ = ["Arm", "Check", "Claim", "beats", "ratio", "share"]
