from cases import Case
from purenet.nn.dense import affine

CASES = {
    "affine": Case(affine, ((5, 3), (3, 4), (4,))),
    "affine, batch of one": Case(affine, ((1, 3), (3, 4), (4,))),
    "affine, one unit": Case(affine, ((5, 3), (3, 1), (1,))),
    "affine, one input": Case(affine, ((5, 1), (1, 4), (4,))),
}
