"""Pictures of a sweep's results: learning curves, heat maps, films of an agent. The only door to
matplotlib.

No display, backend or pyplot state is needed: each function returns a `Picture`, a matplotlib
Figure that shows itself in a notebook and is saved with `picture.savefig("curve.pdf")`.
"""

from jaxrl.plot.canvas import COLORS, DASHES, MARKERS, Picture, number
from jaxrl.plot.curves import curve, heat
from jaxrl.plot.evidence import law, power, profile
from jaxrl.plot.film import Film, gif
from jaxrl.plot.importances import divergence, importance, parallel, together

__all__ = [
    "COLORS",
    "DASHES",
    "MARKERS",
    "Film",
    "Picture",
    "curve",
    "divergence",
    "gif",
    "heat",
    "importance",
    "law",
    "number",
    "parallel",
    "power",
    "profile",
    "together",
]
