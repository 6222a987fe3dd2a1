"""Pictures: learning curves, histograms, images, filters, sweeps. Needs matplotlib.

`pip install 'purenet[plot]'` brings it; `import purenet` alone does not load it.

Every function draws a figure of its own and writes it to `path`, complete or not at all; it needs
no screen and leaves the figures and the backend of the caller alone. The suffix of the path chooses
the format: .png, .svg or .pdf; another one is a ValueError, a path that cannot be written an
OSError, and without matplotlib there is a ModuleNotFoundError that says how to install it.
"""

from purenet.plots.distributions import histograms as histograms
from purenet.plots.lines import curve_grid as curve_grid
from purenet.plots.lines import curves as curves
from purenet.plots.schedulers import lineage as lineage
from purenet.plots.schedulers import rungs as rungs
from purenet.plots.sheets import filters as filters
from purenet.plots.sheets import images as images
from purenet.plots.sweeps import pairwise as pairwise
from purenet.plots.sweeps import parallel_coordinates as parallel_coordinates
from purenet.plots.sweeps import slices as slices
