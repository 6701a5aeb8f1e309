"""The Figure of all plots: the module that imports matplotlib, once something is drawn."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A matplotlib Figure that is displayed in a notebook."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()
