from cases import Case
from purenet.nn.flatten import flatten

CASES = {
    "flatten": Case(flatten, ((2, 3, 2, 1),)),
}
