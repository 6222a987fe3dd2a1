"""The raw operations on arrays: each has its hand-written rule, and `.plain` without it.

Anything but an array raises TypeError, by the names of the operation and of the argument: lists,
None and strings; plain numbers and NumPy arrays are accepted. Integers and bools count as floats,
except where they are places (`look_up`, class numbers) or only move (`relu`, `flatten`, `im2col`,
`col2im`).
"""

from typing import TYPE_CHECKING

from purenet.nn import register

if TYPE_CHECKING:
    from typing import Any

    from purenet.core.vjp import Op

    def __getattr__(name: str) -> Op[..., Any]: ...


globals().update(register.operations())
