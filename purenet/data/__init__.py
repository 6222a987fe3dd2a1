"""Data: the digits, MNIST in IDX files, CSV; one-hot labels, shuffling, a validation split.

A data set is a pair `(x, t)`: inputs x, float32, (n, pixels) or images (n, h, w, 1), and labels t,
int32 (n,) or one-hot float32 (n, classes). Everything that a file claims is checked before it is
used: no size in a header is trusted, and nothing in a file is ever unpickled or evaluated.
"""

from purenet.data._csv import csv as csv
from purenet.data._idx import idx as idx
from purenet.data.arrays import one_hot as one_hot
from purenet.data.arrays import shuffle as shuffle
from purenet.data.arrays import split as split
from purenet.data.images import Dataset as Dataset
from purenet.data.images import digits as digits
from purenet.data.images import mnist as mnist
from purenet.data.streams import Stream as Stream
from purenet.data.streams import stream as stream
