"""What matplotlib takes for its backend in cells: Agg, which needs no screen, with a `show` of our own.

Only matplotlib imports it.
"""

from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas

from warmd.apps.python.figures import show

__all__ = ["FigureCanvas", "show"]
