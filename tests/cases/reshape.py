from cases import Case
from purenet.layers.reshape import flatten

CASES = {
    "flatten": Case(flatten, ((2, 3, 2, 1),)),
}
