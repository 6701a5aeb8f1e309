"""STAX (Paolo et al., 2024): novelty search in learned codes, and evolution strategies that start
from rewarded solutions: SERENE without a hand-made descriptor.
"""

import jax

from experiments.claims import Arm, Check, Claim, beats
from experiments.papers.serene import BATCH, Reach, outcome, with_emitters
from experiments.papers.taxons import Random, search
from jaxrl.stats import difference

ARMS = ("learned codes", "true positions", "random")


def arm(kind: str, iterations: int) -> Arm:
    def run(seed, step):
        key_task, key_train = jax.random.split(jax.random.key(seed))
        task = Reach.drawn(key_task, image=kind == "learned codes")
        emitter = Random() if kind == "random" else with_emitters(step)
        archive, reached = search(key_train, task, emitter, iterations)
        ends = jax.vmap(lambda genotype: task(key_task, genotype).extra)(archive.items.genotype)
        return outcome(task, ends, archive.filled) | {"reached": reached}

    return Arm(run, budget=BATCH * (iterations + 1), tune={"step": (0.02, 0.05, 0.1)})


def claims(scale: float = 1.0) -> list[Claim]:
    iterations = max(int(200 * scale), 2)

    def not_below(metric: str) -> Check:
        """The upper end of the interval of the difference from the true positions."""

        def measure(results):
            learned, true = (results[name][metric].values for name in ARMS[:2])
            return float(difference(learned, true).high)

        return Check(
            f"upper end of the difference in {metric}, learned codes less true positions",
            measure,
            ">= 0",
        )

    return [
        Claim(
            row=28,
            statement="With a planar arm of which only images are seen, novelty search in learned "
            "codes with reward emitters does not earn significantly less than the same search with "
            "true positions, and earns and reaches more than random search.",
            arms={name: arm(name, iterations) for name in ARMS},
            metric="reward",
            accept=[
                not_below("reached"),
                not_below("reward"),
                beats("learned codes", "random", "reached"),
                beats("learned codes", "random", "reward"),
            ],
            worlds=["planar arm of 12 joints with three rewarded areas"],
            unmatched="Search and emitters have shares of each batch, in place of turns.",
        )
    ]
