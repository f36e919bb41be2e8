"""The `calculate` tool: arithmetic on an expression, without running it as a program.

The expression is parsed by Python's own grammar, so that malformed input is explained in Python's words.
Only numbers, `+ - * /` (with `**` and `//`, made of the same characters) and parentheses are ever
evaluated, and powers are bounded.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeAlias

from retail_desk.errors import ShopError

Number: TypeAlias = int | float | complex

_ALLOWED: Final = frozenset("0123456789+-*/(). ")
_MAX_POWER_BITS: Final = 4096
"""A float holds 1,024 binary places; what is far above can't become a result."""


def calculate(expression: str) -> str:
    """The value of an expression, rounded to two decimals, as text: `"2 + 2"` is `"4.0"`.

    Raises:
        ShopError: Characters that arithmetic has not, a malformed expression, division by zero, overflow.
    """
    if not _ALLOWED.issuperset(expression):
        raise ShopError("Invalid characters in expression")
    try:
        value = _value(_parse(expression))
        return str(round(float(value), 2)) if not isinstance(value, complex) else _no_number("complex")
    except (SyntaxError, ArithmeticError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ShopError(str(error)) from error


def _parse(expression: str) -> ast.expr:
    source = expression.lstrip(" ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `2(3)` compiles with a warning; what counts is that it fails below
        compile(source, "<string>", "eval")  # finds the syntax errors that parsing alone lets pass
        return ast.parse(source, filename="<string>", mode="eval").body


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.Call(func=func):
            raise TypeError(f"'{type(_value(func)).__name__}' object is not callable")
        case ast.Tuple():
            return _no_number("tuple")
        case ast.Constant(value=constant):
            return _no_number(type(constant).__name__)
        case _:
            raise SyntaxError("invalid syntax")


def _no_number(kind: str) -> NoReturn:
    raise TypeError(f"float() argument must be a string or a real number, not '{kind}'")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and _is_too_large(base, exponent):
        raise OverflowError("int too large to convert to float")
    power: Number = base**exponent
    return power


def _is_too_large(base: int, exponent: int) -> bool:
    return abs(base) > 1 and base.bit_length() * exponent > _MAX_POWER_BITS


def _floor_quotient(dividend: Number, divisor: Number) -> Number:
    if isinstance(dividend, complex) or isinstance(divisor, complex):
        raise TypeError("unsupported operand type(s) for //: complex numbers have no floor")
    return dividend // divisor


_BINARY: Final[Mapping[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: _floor_quotient,
    ast.Pow: _power,
}
