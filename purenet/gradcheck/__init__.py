"""Check hand-written gradients against automatic differentiation and central differences."""

from purenet.gradcheck._check import TOLERANCES as TOLERANCES
from purenet.gradcheck._check import Check as Check
from purenet.gradcheck._check import Row as Row
from purenet.gradcheck._check import Tolerance as Tolerance
from purenet.gradcheck._check import Worst as Worst
from purenet.gradcheck._check import check as check
from purenet.gradcheck._check import report as report
from purenet.gradcheck._check import table as table
from purenet.gradcheck.numerical import numerical_gradient as numerical_gradient
from purenet.gradcheck.numerical import numerical_gradient_two_layer as numerical_gradient_two_layer
