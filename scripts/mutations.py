"""Every change of one operator or constant in the text of a module, for scripts/mutate."""

import ast
import io
import tokenize
from typing import Any, NamedTuple

SWAPS = {
    "<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"],
    "==": ["!="], "!=": ["=="], "is": ["is not"], "is not": ["is"],
    "in": ["not in"], "not in": ["in"], "and": ["or"], "or": ["and"],
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "//": ["*"], "%": ["//"], "**": ["*"],
    "&": ["|"], "|": ["&"], "^": ["&"], "@": ["*"], "<<": [">>"], ">>": ["<<"],
}  # fmt: skip
CALLS = {"min": "max", "minimum": "maximum", "argmin": "argmax", "any": "all", "floor": "ceil"}
CALLS |= {after: before for before, after in CALLS.items()}
SYMBOLS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in", ast.And: "and",
    ast.Or: "or", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//",
    ast.Mod: "%", ast.Pow: "**", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
    ast.MatMult: "@", ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip


class Mutant(NamedTuple):
    """A change of one token, from `start` to `end` in the text of a module."""

    line: int
    column: int
    before: str
    after: str
    start: int
    end: int
    lines: tuple[int, int]  # of the statement, or of a compound statement's header

    def text(self, source: str) -> str:
        return source[: self.start] + self.after + source[self.end :]


def mutants(source: str) -> list[Mutant]:
    """Every change that is tried on a module, in the order of the text.

    Left alone: docstrings, annotations, assertions, f-strings, whatever is raised, `__repr__`.
    """
    finder = Finder(source)
    finder.visit(ast.parse(source))
    return sorted(set(finder.found), key=lambda m: (m.start, m.end, m.after))


class Finder(ast.NodeVisitor):
    def __init__(self, source: str):
        self.source, self.lines = source, source.split("\n")
        self.offsets = [0]
        for line in self.lines:
            self.offsets.append(self.offsets[-1] + len(line) + 1)
        readable = tokenize.generate_tokens(io.StringIO(source).readline)
        self.tokens = [
            (self.offsets[t.start[0] - 1] + t.start[1], t.string)
            for t in readable
            if t.type in (tokenize.NAME, tokenize.OP)
        ]
        self.statement = (0, 0)
        self.found: list[Mutant] = []

    def offset(self, line: int, column: int) -> int:
        """A position in the text, from a line and a column in bytes of UTF-8."""
        return self.offsets[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def start(self, node) -> int:
        return self.offset(node.lineno, node.col_offset)

    def end(self, node) -> int:
        return self.offset(node.end_lineno, node.end_col_offset)

    def change(self, start: int, end: int, *texts: str) -> None:
        line = self.source.count("\n", 0, start) + 1
        column = start - self.offsets[line - 1] + 1
        before = self.source[start:end]
        self.found += [
            Mutant(line, column, before, after, start, end, self.statement)
            for after in texts
            if after != before
        ]

    def operator(self, left: int, right: int, kind: ast.AST) -> None:
        """Change the operator that stands somewhere between two operands."""
        symbol = SYMBOLS[type(kind)]
        first, *others = symbol.split()
        for i, (start, text) in enumerate(self.tokens):
            if left <= start < right and text.rstrip("=") == first.rstrip("="):
                last, word = self.tokens[i + len(others)]
                end = last + len(word)
                assigned = "=" if word == f"{first}=" and symbol != word else ""
                self.change(start, end, *(after + assigned for after in SWAPS[symbol]))
                return

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            self.statement = (node.lineno, node.end_lineno or node.lineno)
        return super().visit(node)

    def skip(self, node: ast.AST) -> None:
        pass

    visit_Raise = visit_JoinedStr = visit_Assert = visit_Import = visit_ImportFrom = skip

    def header(self, *nodes: ast.AST | None) -> None:
        for node in filter(None, nodes):
            self.statement = (node.lineno, node.end_lineno)  # type: ignore[attr-defined]
            self.visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in ("__repr__", "__str__"):
            return
        self.header(*node.decorator_list, *node.args.defaults, *node.args.kw_defaults)
        for part in node.body:
            self.visit(part)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), node.body):
            self.visit(part)

    def compound(self, node: Any) -> None:
        self.header(*(getattr(node, name, None) for name in ("test", "iter")))
        for item in getattr(node, "items", ()):
            self.header(item.context_expr)
        for part in (*node.body, *getattr(node, "orelse", ())):
            self.visit(part)

    visit_If = visit_While = visit_For = visit_With = compound

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        left: ast.AST = node.left
        for kind, right in zip(node.ops, node.comparators, strict=True):
            self.operator(self.end(left), self.start(right), kind)
            left = right
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.operator(self.end(node.left), self.start(node.right), node.op)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.operator(self.end(node.target), self.start(node.value), node.op)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.operator(self.end(left), self.start(right), node.op)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.change(self.start(node), self.start(node.operand), "")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
        if name in CALLS:
            self.change(self.end(node.func) - len(name), self.end(node.func), CALLS[name])
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in filter(None, (node.lower, node.upper)):
            self.change(self.start(bound), self.end(bound), "")
            if not isinstance(bound, ast.Constant):
                self.change(self.end(bound), self.end(bound), " + 1")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            others = [str(not value)]
        elif isinstance(value, int):
            others = [str(value + 1), str(value - 1)]
        elif isinstance(value, float):
            others = [f"{value * 1.01 if value else 0.01:.6g}"]
        else:
            return
        self.change(self.start(node), self.end(node), *others)
