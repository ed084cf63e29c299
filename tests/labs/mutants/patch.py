"""A mistake as a small change of text, applied to a wing in memory and taken back afterwards.

The wing's module is compiled again with the change, and every function whose code came out
different gets the new code in place: whoever imported it before has the mistake too.
"""

import builtins
import contextlib
import dis
import functools
import importlib
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A mistake, and where the ladder must find it.

    where  wing and module, "torch routing._dynamic"
    old    text that stands in the file exactly once, and `new` what it becomes
    rung   the first that must break
    at     what the row must name: a part of the first tensor beyond the tolerance
    network  that the ladder is of, one of `hunt.SUBJECTS`
    """

    name: str
    where: str
    old: str
    new: str
    rung: int
    at: str
    network: str = "sabour2017"

    @property
    def module(self) -> str:
        """The module that holds the mistake."""
        wing, file = self.where.split()
        return f"{wing}_caps.{file}"


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The mistake is made inside this block; raises ValueError where its text does not fit."""
    module = importlib.import_module(mutant.module)
    source = inspect.getsource(module)
    if source.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.old!r} stands {source.count(mutant.old)} times in "
            f"{mutant.module}, expected once; bring tests/labs/mutants/table.py up to date"
        )
    scratch = types.ModuleType(mutant.module)
    scratch.__dict__.update(__file__=module.__file__, __package__=module.__package__)
    changed = compile(source.replace(mutant.old, mutant.new), str(module.__file__), "exec")
    exec(changed, scratch.__dict__)
    kept = []
    for ours, theirs in _functions(module, scratch):
        if ours.__code__ != theirs.__code__:
            named = {x.argval for x in dis.get_instructions(theirs) if x.opname == "LOAD_GLOBAL"}
            unknown = named - vars(module).keys() - vars(builtins).keys()
            if unknown:  # it would be caught as a NameError, wherever it stands
                raise ValueError(f"{mutant.name}: {mutant.module} has no {sorted(unknown)}")
            kept.append((ours, ours.__code__, ours.__kwdefaults__))
            ours.__code__, ours.__kwdefaults__ = theirs.__code__, theirs.__kwdefaults__
    assert kept, f"{mutant.name} changes no function"
    try:
        yield
    finally:
        for function, code, defaults in kept:
            function.__code__, function.__kwdefaults__ = code, defaults


def _functions(
    module: types.ModuleType, scratch: types.ModuleType
) -> Iterator[tuple[types.FunctionType, types.FunctionType]]:
    """Each function and method of a module with its twin in the scratch copy."""
    for name, ours in vars(module).items():
        theirs = getattr(scratch, name, None)
        if getattr(ours, "__module__", None) != module.__name__:
            continue
        if isinstance(ours, types.FunctionType):
            yield ours, theirs
        elif isinstance(ours, type):
            for key, method in vars(ours).items():
                twin = vars(theirs).get(key)
                if isinstance(method, property):
                    method, twin = method.fget, twin.fget
                elif isinstance(method, functools.cached_property):
                    method, twin = method.func, twin.func
                if isinstance(method, types.FunctionType):
                    yield method, twin
