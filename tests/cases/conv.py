from cases import Case
from purenet.nn.conv import convolve
from purenet.nn.conv_transpose import convolve_transposed
from purenet.nn.windows import col2im, im2col


def case(x, w, *static):
    return Case(convolve, (x, w, (w[3],)), static)


CASES = {
    "im2col": Case(im2col, ((2, 4, 3, 2),), ((2, 3), (1, 1), (1, 0))),
    "im2col, stride 3, a remainder": Case(im2col, ((1, 6, 5, 1),), (2, 3, 0)),
    "col2im": Case(col2im, ((1, 2, 3, 8),), ((1, 4, 4, 2), 2, (2, 1), 0)),
    "columns": case((2, 4, 3, 2), (3, 2, 2, 3), 1, (1, 0), "columns"),
    "columns, stride 2, same": case((1, 5, 4, 1), (3, 3, 1, 2), 2, "same", "columns"),
    "columns, 1x1": case((2, 2, 3, 3), (1, 1, 3, 2), 1, 0, "columns"),
    "direct": case((2, 4, 3, 2), (3, 2, 2, 3), 1, (1, 0), "direct"),
    "direct, stride 2, same": case((1, 5, 4, 1), (3, 3, 1, 2), 2, "same", "direct"),
    "direct, stride 3, a remainder": case((1, 7, 6, 2), (2, 2, 2, 1), 3, 0, "direct"),
    "direct, as large as the image": case((2, 3, 4, 1), (3, 4, 1, 2), 1, "valid", "direct"),
    "direct, more padding than needed": case((1, 2, 3, 1), (2, 2, 1, 2), (2, 1), (3, 2), "direct"),
    "blocked, a remainder": case((2, 4, 5, 2), (3, 3, 2, 3), 1, (1, 0), "blocked"),
    "winograd, a remainder": case((1, 5, 7, 2), (3, 3, 2, 3), 1, (1, 0), "winograd"),
    "lax, stride 2, same": case((1, 5, 4, 1), (3, 3, 1, 2), 2, "same", "lax"),
    "columns, groups, dilation": case((2, 4, 5, 4), (2, 2, 2, 6), 1, (1, 0), "columns", 2, (2, 3)),
    "depthwise, stride 2": case((2, 5, 4, 3), (3, 2, 1, 3), (2, 1), "same", "depthwise", 3, (1, 2)),
    "lax, groups, dilation": case((1, 5, 4, 4), (3, 2, 2, 2), (2, 1), 1, "lax", 2, (1, 2)),
    "convolve_transposed, direct, no bias": Case(
        convolve_transposed, ((1, 3, 2, 5), (2, 3, 5, 1), ()), ((1, 2), "same", "direct")
    ),
    "convolve, no bias": Case(convolve, ((1, 3, 3, 2), (2, 2, 2, 2), ()), (1, 0, None)),
}
