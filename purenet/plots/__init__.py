"""Pictures: learning curves, histograms, images, filters, sweeps. Needs matplotlib.

Install it with `pip install 'purenet[plot]'`; `import purenet` alone does not import it.

Every function draws a figure of its own and writes it to `path`, completely or not at all; without
a path (None) it returns the figure, which a notebook shows. It needs no screen and does not touch
the caller's figures or backend. The suffix of the path is the format: .png, .svg or .pdf. Any other
suffix raises ValueError, a path that cannot be written OSError, and without matplotlib
ModuleNotFoundError says how to install it.
"""

from purenet.plots.distributions import histograms as histograms
from purenet.plots.fronts import front as front
from purenet.plots.history import history as history
from purenet.plots.history import importances as importances
from purenet.plots.lines import curve_grid as curve_grid
from purenet.plots.lines import curves as curves
from purenet.plots.schedulers import lineage as lineage
from purenet.plots.schedulers import rungs as rungs
from purenet.plots.sheets import filters as filters
from purenet.plots.sheets import images as images
from purenet.plots.sweeps import pairwise as pairwise
from purenet.plots.sweeps import parallel_coordinates as parallel_coordinates
from purenet.plots.sweeps import slices as slices
