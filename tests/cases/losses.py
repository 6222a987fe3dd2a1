import numpy as np

from cases import Case
from purenet.nn import losses

CLASSES = np.array([2, 0, 1, 2])
PROBABILITIES = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
EXTREMES = np.array([[1000.0, -1000.0, 1000.0], [0.0, 0.0, 0.0]])
SMOOTHING = np.array(0.1)

CASES = {
    "softmax_cross_entropy": Case(losses.softmax_cross_entropy, ((4, 3), CLASSES, SMOOTHING)),
    "softmax_cross_entropy, probabilities": Case(
        losses.softmax_cross_entropy, ((2, 3), PROBABILITIES, SMOOTHING)
    ),
    "softmax_cross_entropy, bool, one example": Case(
        losses.softmax_cross_entropy, ((1, 2), np.array([True]), SMOOTHING)
    ),
    "softmax_cross_entropy, extremes": Case(
        losses.softmax_cross_entropy, (EXTREMES, CLASSES[:2], np.array(0.0)), differences=False
    ),
    "sigmoid_binary_cross_entropy": Case(
        losses.sigmoid_binary_cross_entropy, ((4,), np.array([1, 0, 0, 1]), SMOOTHING)
    ),
    "sigmoid_binary_cross_entropy, probabilities": Case(
        losses.sigmoid_binary_cross_entropy, ((2, 3), PROBABILITIES, SMOOTHING)
    ),
    "sigmoid_binary_cross_entropy, extremes": Case(
        losses.sigmoid_binary_cross_entropy,
        (EXTREMES, np.array([[1, 0, 0], [1, 0, 1]]), np.array(0.0)),
        differences=False,
    ),
    "huber": Case(losses.huber, ((2, 3), (2, 3), np.array(0.7))),
    "huber, at the kink": Case(
        losses.huber,
        (np.array([-1.0, 0.0, 1.0, 3.0]), np.zeros(4), np.array(1.0)),
        differences=False,
    ),
    "mean_squared_error": Case(losses.mean_squared_error, ((2, 3), (2, 3))),
    "half_sum_of_squares": Case(losses.half_sum_of_squares, ((2, 3),)),
    "sum_of_magnitudes": Case(losses.sum_of_magnitudes, ((2, 3),)),
    "sum_of_magnitudes, zeros": Case(
        losses.sum_of_magnitudes, (np.array([0.0, -0.0, 2.0]),), differences=False
    ),
}
