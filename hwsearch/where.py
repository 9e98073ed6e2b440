"""Conditions on a table, such as ``latency_s < 0.012 and kind == 'mixed'``, without running any code."""

from __future__ import annotations

import ast
import operator
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

_COMPARISONS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_RULE = "use column names, numbers, quoted text, comparisons, and, or, not and parentheses"


def columns_of(where: str) -> list[str]:
    """The column names that a condition mentions, in order of appearance.

    Raises:
        ValueError: If the condition is not well-formed.
    """
    names = [node.id for node in ast.walk(_parse(where)) if isinstance(node, ast.Name)]
    return list(dict.fromkeys(names))


def select(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The rows of a table that satisfy a condition.

    Args:
        table: Any frame; its columns are the names that the condition may use.
        where: Comparisons of columns with numbers (in the unit of the column), with quoted text or with each other,
            joined by ``and``, ``or``, ``not`` and parentheses. A comparison with an unknown value is false.

    Raises:
        ValueError: If the condition is not well-formed, names no column, or compares numbers with text.
    """
    for name in columns_of(where):
        if name not in table.columns:
            raise ValueError(f"where={where!r}: no column '{name}'; choose from {list(table.columns)}.")
    mask = _evaluate(_parse(where), table, where)
    if not isinstance(mask, pd.Series) or not is_bool_dtype(mask):
        raise ValueError(f"where={where!r} is not a condition: {_RULE}.")
    return table[mask]


def _parse(where: str) -> ast.expr:
    try:
        return ast.parse(where.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"where={where!r} is not a condition ({error}): {_RULE}.") from error


def _evaluate(node: ast.expr, table: pd.DataFrame, where: str) -> Any:
    match node:
        case ast.Name(id=name):
            return table[name]
        case ast.Constant(value=int() | float() | str() as constant):
            return constant
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_condition(operand, table, where)
        case ast.BoolOp(op=op, values=values):
            mask = _condition(values[0], table, where)
            for value in values[1:]:
                other = _condition(value, table, where)
                mask = mask & other if isinstance(op, ast.And) else mask | other
            return mask
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARISONS for op in ops):
            return _compare([left, *comparators], ops, table, where)
    raise ValueError(f"where={where!r}: '{ast.unparse(node)}' is not allowed; {_RULE}.")


def _condition(node: ast.expr, table: pd.DataFrame, where: str) -> Any:
    mask = _evaluate(node, table, where)
    if not isinstance(mask, pd.Series) or not is_bool_dtype(mask):
        raise ValueError(f"where={where!r}: '{ast.unparse(node)}' is neither true nor false; compare it.")
    return mask


def _compare(nodes: list[ast.expr], ops: list[ast.cmpop], table: pd.DataFrame, where: str) -> pd.Series[bool]:
    """A chain ``a < b < c``: every neighbouring pair must hold."""
    values = [_evaluate(node, table, where) for node in nodes]
    mask = pd.Series(True, index=table.index)
    for i, op in enumerate(ops):
        if _is_text(values[i]) != _is_text(values[i + 1]):
            pair = f"'{ast.unparse(nodes[i])}' and '{ast.unparse(nodes[i + 1])}'"
            raise ValueError(f"where={where!r}: {pair} cannot be compared; one is text, the other is not.")
        mask &= _COMPARISONS[type(op)](values[i], values[i + 1])
    return mask


def _is_text(value: Any) -> bool:
    return not is_numeric_dtype(value) if isinstance(value, pd.Series) else isinstance(value, str)
