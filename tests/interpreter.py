"""A slow interpreter of programs: the definition of their execution, one number at a time."""

import math

import numpy as np


def slowly(name, u, v):
    """An operation on two lists of Python numbers, one for each action."""
    n = len(u)
    rows = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: 0.0 if abs(b) < 1e-3 else a / b,
        "max": max,
        "min": min,
        "neg": lambda a, b: -a,
        "square": lambda a, b: a * a,
        "abs": lambda a, b: abs(a),
        "log": lambda a, b: math.log(max(a, 1e-3)),
        "exp": lambda a, b: math.exp(min(a, 9.0)),
        "tanh": lambda a, b: math.tanh(a),
    }
    if name in rows:
        return [rows[name](a, b) for a, b in zip(u, v, strict=True)]
    whole = {
        "at": lambda: u[min(max(round(v[0]), 0), n - 1)],
        "best": lambda: max(u),
        "mean": lambda: sum(u) / n,
        "softbest": lambda: max(u) + math.log(sum(math.exp(a - max(u)) for a in u)),
        "argbest": lambda: float(u.index(max(u))),
    }
    return [whole[name]()] * n


def interpret(program, inputs):
    held = lambda row: [min(max(float(x), -1e4), 1e4) for x in row]
    n = len(inputs["values"])
    registers = [held(np.broadcast_to(inputs[name], n)) for name in program.language.names]
    registers += [held([c] * n) for c in np.asarray(program.constants)]
    for number, first, second in np.asarray(program.code):
        registers.append(
            held(slowly(program.language.operations[number], registers[first], registers[second]))
        )
    return registers[-1]
