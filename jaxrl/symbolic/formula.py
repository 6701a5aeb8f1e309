"""Programs as text and back: `formula(program)` is what it computes, `parse(text, language)` a
program that computes it.
"""

import ast
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrl.symbolic.operations import OPERATIONS
from jaxrl.symbolic.program import Language, Program
from jaxrl.tree import nearest

Tree = Any  # a name, a number, or (operation, tree, ...)
BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}


def formula(program: Program, digits: int = 3) -> str:
    """What a program computes, as text: without the lines that nothing reads, constants folded,
    simplified.

    The identities of algebra hold up to the clipping of registers. It reads as Python, and `parse`
    reads it.
    """
    language, lines = program.language, np.asarray(program.code)
    registers: list[Tree] = [*language.names, *(float(x) for x in np.asarray(program.constants))]
    for number, *read in lines:
        name = language.operations[number]
        arguments = [registers[i] for i in read[: len(OPERATIONS[name].takes)]]
        registers.append(simplify((name, *arguments)))
    return ast.unparse(
        ast.parse(_text(registers[-1], digits), mode="eval")
    )  # which leaves needless brackets out


def simplify(tree: Tree) -> Tree:
    """A tree whose arguments are simple, simplified."""
    name, *arguments = tree
    if all(isinstance(x, float) for x in arguments):
        u, v = (jnp.float32(x) for x in (*arguments, *arguments)[:2])
        return float(OPERATIONS[name].function(u, v))
    terms = _terms(tree)
    for sign, term in terms:
        if (-sign, term) in terms:  # what is added here and taken away there
            terms.remove((sign, term))
            terms.remove((-sign, term))
            return _sum(terms)
    match tree:
        case (
            ("add", x, 0.0)
            | ("add", 0.0, x)
            | ("sub", x, 0.0)
            | ("mul", x, 1.0)
            | ("mul", 1.0, x)
            | ("div", x, 1.0)
        ):
            return x
        case ("mul", _, 0.0) | ("mul", 0.0, _) | ("div", 0.0, _) | ("div", _, 0.0):
            return 0.0
        case ("sub", x, y) if x == y:
            return 0.0
        case ("max" | "min", x, y) if x == y:
            return x
        case ("add", x, y) if x == y:
            return simplify(("mul", 2.0, x))
        case ("mul", x, y) if x == y:
            return simplify(("square", x))
        case ("sub", 0.0, x):
            return simplify(("neg", x))
        case ("add", x, ("neg", y)) | ("add", ("neg", y), x):
            return simplify(("sub", x, y))
        case ("sub", x, ("neg", y)):
            return simplify(("add", x, y))
        case ("neg", ("neg", x)):
            return x
        case ("neg", ("sub", x, y)):
            return ("sub", y, x)
        case ("abs", ("abs" | "square" | "exp", *_) as same):
            return same
        case ("abs" | "square", ("neg" | "abs", x)):
            return simplify((name, x))
        case ("mul", float(a), ("mul", float(b), x)):
            return simplify(("mul", a * b, x))
        case ("mul", x, float(a)):  # numbers go first
            return simplify(("mul", a, x))
    return tree


def _terms(tree: Tree, sign: int = 1) -> list[tuple[int, Tree]]:
    """The terms of a sum, each with its sign."""
    match tree:
        case ("add", x, y):
            return [*_terms(x, sign), *_terms(y, sign)]
        case ("sub", x, y):
            return [*_terms(x, sign), *_terms(y, -sign)]
        case ("neg", x):
            return _terms(x, -sign)
    return [(sign, tree)]


def _sum(terms: list[tuple[int, Tree]]) -> Tree:
    """A simple sum of such terms."""
    total: Tree = 0.0
    for sign, term in sorted(terms, key=lambda term: -term[0]):  # what is added first
        total = simplify(("add" if sign > 0 else "sub", total, term))
    return total


def _text(tree: Tree, digits: int) -> str:
    if isinstance(tree, float):
        return f"{tree:.{digits}g}"
    if isinstance(tree, str):
        return tree
    name, *arguments = tree
    return OPERATIONS[name].text.format(*(_text(x, digits) for x in arguments))


def parse(text: str, language: Language, lines: int = 0) -> Program:
    """The program of a formula: + - * /, ** 2, and calls of the language's operations on its inputs
    and numbers.

    lines: how many it has at least; those before the formula's own are read by nothing, and are
    room to evolve in. Equal parts are computed once. Numbers become constants, in their order,
    before those of the language.

    Raises:
      ValueError: not such a formula, a name that the language lacks, more numbers than constants,
        no line at all.
    """
    numbers: list[float] = []
    code: list[tuple[str, Any, Any]] = []

    def read(node: ast.expr) -> Any:
        match node:
            case ast.Name(name) if name in language.names:
                return ("input", name)
            case ast.Constant(int() | float() as number) | ast.UnaryOp(
                ast.USub(), ast.Constant(int() | float() as number)
            ):
                number = float(number) * (1.0 if isinstance(node, ast.Constant) else -1.0)
                numbers.extend([] if number in numbers else [number])
                return ("number", numbers.index(number))
            case ast.BinOp(left, ast.Pow(), ast.Constant(2)):
                return line("square", left)
            case ast.BinOp(left, operator, right) if type(operator) in BINARY:
                return line(BINARY[type(operator)], left, right)
            case ast.UnaryOp(ast.USub(), inner):
                return line("neg", inner)
            case ast.Call(ast.Name(name), arguments, []) if name in language.operations:
                return line(name, *arguments)
        raise ValueError(
            f"{ast.unparse(node)!r} of {text!r} is nothing that the language knows. Its inputs are "
            f"{', '.join(language.names)}; its operations {', '.join(language.operations)}; "
            f"{nearest(ast.unparse(node), language.names + language.operations)}."
        )

    def line(name: str, *nodes: ast.expr) -> Any:
        takes = OPERATIONS[name].takes
        if name not in language.operations or len(nodes) != len(takes):
            raise ValueError(
                f"{text!r} calls {name} with {len(nodes)} arguments; the language knows it "
                f"with {len(takes)}."
            )
        first, *rest = (read(node) for node in nodes)
        new = (name, first, rest[0] if rest else first)
        code.extend([] if new in code else [new])
        return ("line", new)

    try:
        read(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no formula: {error}") from None
    spare = max(lines - len(code), 0)
    constants = (*numbers, *language.constants)[: len(language.constants)]
    if not code or len(numbers) > len(constants):
        raise ValueError(
            f"{text!r} has {len(code)} operations and {len(numbers)} numbers; a program has "
            "one operation at least, and "
            f"one of this language up to {len(constants)} numbers."
        )

    def place(where: tuple[str, Any]) -> int:
        kind, what = where
        if kind == "input":
            return language.names.index(what)
        return len(language.names) + (
            what if kind == "number" else len(constants) + spare + code.index(what)
        )

    number = language.operations.index
    idle = (number(language.operations[0]), len(language.names), len(language.names))
    written = [(number(name), place(first), place(second)) for name, first, second in code]
    program = Program(
        jnp.array([idle] * spare + written, jnp.int32), jnp.array(constants, jnp.float32), language
    )
    kinds, takes = np.asarray(program.types), language.takes
    for operation, *read_ in np.asarray(program.code):
        if not all(takes[operation, i, kinds[at]] for i, at in enumerate(read_)):
            raise ValueError(
                f"{text!r} gives {language.operations[operation]} what is not its type."
            )
    if kinds[-1] != 0:
        raise ValueError(f"{text!r} is no number.")
    return program
