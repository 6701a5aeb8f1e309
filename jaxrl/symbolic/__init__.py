"""Formulas as arrays of integers: readable rules that can be mutated and searched on the device."""

from jaxrl.symbolic.formula import formula, parse
from jaxrl.symbolic.program import (
    DRIFT_LANGUAGE,
    VALUE_LANGUAGE,
    Language,
    Program,
    SymbolicFunction,
    fingerprint,
    insert,
    mutate,
    random_program,
)
from jaxrl.symbolic.rules import DriftProgram, FunctionProgram, ValueProgram

__all__ = [
    "DRIFT_LANGUAGE",
    "VALUE_LANGUAGE",
    "DriftProgram",
    "FunctionProgram",
    "Language",
    "Program",
    "SymbolicFunction",
    "ValueProgram",
    "fingerprint",
    "formula",
    "insert",
    "mutate",
    "parse",
    "random_program",
]
