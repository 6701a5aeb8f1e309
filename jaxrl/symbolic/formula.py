"""Programs as text: `formula(program)` writes one, and `parse(text, language)` reads one."""

import ast
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrl.errors import nearest
from jaxrl.symbolic.operations import OPERATIONS
from jaxrl.symbolic.program import Language, Program

Tree = Any  # a name, a number, or (operation, tree, ...)
BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}


def formula(program: Program, digits: int = 3) -> str:
    """The formula that a program computes, as a Python expression that `parse` reads.

    Unused lines are left out, constants folded, and the result simplified; algebraic identities
    hold up to the clipping of registers.

    digits: significant digits of the constants.
    """
    language, lines = program.language, np.asarray(program.code)
    registers: list[Tree] = [*language.names, *(float(x) for x in np.asarray(program.constants))]
    for number, *arguments in lines:
        name = language.operations[number]
        num_arguments = len(OPERATIONS[name].argument_types)
        trees = [registers[i] for i in arguments[:num_arguments]]
        registers.append(simplify((name, *trees)))
    # unparse leaves out needless parentheses
    return ast.unparse(ast.parse(_text(registers[-1], digits), mode="eval"))


def simplify(tree: Tree) -> Tree:
    """The simplified form of a tree with simplified arguments."""
    name, *arguments = tree
    if all(isinstance(x, float) for x in arguments):
        u, v = (jnp.float32(x) for x in (*arguments, *arguments)[:2])
        return float(OPERATIONS[name].function(u, v))
    terms = _terms(tree)
    for sign, term in terms:
        if (-sign, term) in terms:  # x - x
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
        case ("mul", x, float(a)):  # numbers come first
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
    """The simplified sum of signed terms."""
    total: Tree = 0.0
    for sign, term in sorted(terms, key=lambda term: -term[0]):  # positive terms first
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
    """The program of a formula.

    text: an expression of the language's inputs, numbers, + - * /, ** 2, and calls of the
      language's operations. Equal subexpressions are computed once. Numbers become constants, in
      their order, before those of the language.
    lines: the minimum number of lines; lines before the formula's are unused, and leave room for
      evolution.

    Raises:
      ValueError: `text` is not such a formula, has an unknown name, more numbers than the language
        has constants, or no operation.
    """
    numbers: list[float] = []
    code: list[tuple[str, Any, Any]] = []

    def visit(node: ast.expr) -> tuple[str, Any]:
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
            f"{ast.unparse(node)!r} in {text!r} is not part of the language. Its inputs are "
            f"{', '.join(language.names)}; its operations {', '.join(language.operations)}; "
            f"{nearest(ast.unparse(node), language.names + language.operations)}."
        )

    def line(name: str, *nodes: ast.expr) -> tuple[str, Any]:
        num_arguments = len(OPERATIONS[name].argument_types)
        if name not in language.operations:
            raise ValueError(
                f"{text!r} uses {name}, which is not an operation of the language; they are "
                f"{', '.join(language.operations)}."
            )
        if len(nodes) != num_arguments:
            raise ValueError(
                f"{text!r} calls {name} with {len(nodes)} arguments; write {num_arguments}."
            )
        first, *rest = (visit(node) for node in nodes)
        new = (name, first, rest[0] if rest else first)
        code.extend([] if new in code else [new])
        return ("line", new)

    try:
        visit(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not a formula: {error}") from None
    num_unused = max(lines - len(code), 0)
    constants = (*numbers, *language.constants)[: len(language.constants)]
    if not code or len(numbers) > len(constants):
        raise ValueError(
            f"{text!r} has {len(code)} operations and {len(numbers)} numbers; a program of this "
            f"language has at least one operation, and up to {len(constants)} numbers."
        )

    def register(source: tuple[str, Any]) -> int:
        kind, value = source
        if kind == "input":
            return language.names.index(value)
        if kind == "number":
            return len(language.names) + value
        return len(language.names) + len(constants) + num_unused + code.index(value)

    index = language.operations.index
    unused = (index(language.operations[0]), len(language.names), len(language.names))
    used = [(index(name), register(first), register(second)) for name, first, second in code]
    program = Program(
        code=jnp.array([unused] * num_unused + used, jnp.int32),
        constants=jnp.array(constants, jnp.float32),
        language=language,
    )
    types, accepts = np.asarray(program.types), language.accepts
    for operation, *arguments in np.asarray(program.code):
        if not all(accepts[operation, i, types[at]] for i, at in enumerate(arguments)):
            raise ValueError(
                f"{text!r} passes {language.operations[operation]} an argument of another type: "
                f"it takes {', '.join(OPERATIONS[language.operations[operation]].argument_types)}."
            )
    if types[-1] != 0:
        raise ValueError(f"{text!r} is not a number: end with an operation that returns a number.")
    return program
