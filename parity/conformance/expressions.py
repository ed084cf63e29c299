"""How a function is called, as an expression: f(votes, num_iterations=r).

f is the function. The names of a kind's inputs (`Kind.inputs`) stand for what a case holds, and
everything else is a literal. Nothing of it is run: it is parsed, and the call is put together here.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parity.conformance.kinds import ConformanceError, Kind

FORM = 'expected a call of f with names and literals, like "f(votes, num_iterations=r)"'


@dataclass(frozen=True)
class Input:
    """The name of an input, in the place of its value."""

    name: str


@dataclass(frozen=True)
class Call:
    """A parsed expression: each argument an `Input` or a literal."""

    text: str
    positional: tuple[Any, ...]
    named: Mapping[str, Any]

    @property
    def inputs(self) -> list[str]:
        """The names that stand in it."""
        terms = (*self.positional, *self.named.values())
        return [term.name for term in terms if isinstance(term, Input)]


def parse(text: str) -> Call:
    """The call that an expression means, without a look at its names.

    Raises ConformanceError for anything but a call of f with names and literals.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConformanceError(f"call {text!r} is no expression ({error}); {FORM}") from error
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "f"):
        raise ConformanceError(f"call {text!r} is no call of f; {FORM}")
    named = {}
    for word in node.keywords:
        if word.arg is None or word.arg in named:
            fault = "**" if word.arg is None else f"{word.arg}= twice"
            raise ConformanceError(f"call {text!r} has {fault}; {FORM}")
        named[word.arg] = _term(word.value, text)
    return Call(ast.unparse(node), tuple(_term(argument, text) for argument in node.args), named)


def _term(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return Input(node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        part = ast.unparse(node)
        raise ConformanceError(f"call {text!r} holds {part}, no name or literal; {FORM}") from error


def check(call: Call, kind: Kind) -> None:
    """Raises ConformanceError where a name is unknown, or a needed one missing.

    A kind needs its own input, the targets of a margin loss, and all that a routing owns.
    """
    inputs = kind.inputs
    for name in call.inputs:
        if name not in inputs:
            raise ConformanceError(
                f"call {call.text!r} names {name}; expected names of {', '.join(inputs)} for a "
                f"{kind.title}, and a string in quotes"
            )
    for group in kind.needs:
        if not set(group) & set(call.inputs):
            raise ConformanceError(
                f"call {call.text!r} leaves out {' and '.join(group)}; expected "
                f"{' or '.join(group)} in it, as a {kind.title} needs"
            )
