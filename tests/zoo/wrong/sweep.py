"""The sweep: everything public by its signature, and what a wrong value leads to."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import ekitools as ek
from ekitools._public import PUBLIC
from ekitools.results.accessor import ResultAccessor
from zoo.wrong import localized, methods, others, problems, results  # noqa: F401 - they fill the table
from zoo.wrong.right import RUNS
from zoo.wrong.table import TABLE, Row

ADAPTERS = {
    "command": ("CommandModel",),
    "jax": ("JaxModel",),
    "torch": ("TorchModel",),
    "umbridge": ("ServedModel", "UMBridgeModel", "serve"),
}
"""Public names of the adapters; the module of the last three needs a framework."""

OF_THE_LOOP = "the loop calls it, with what it has checked (see ekitools.typing)"
OF_A_PROBLEM = "the problem calls it when it is made (see ekitools.InverseProblem)"
OF_AN_EMULATOR = "an emulator calls it"
OF_A_PRIOR = "the base class calls it, with what it has checked (see ekitools.BasePrior)"
NOT_SWEPT = {
    r"(RunError|CheckpointError)": "the library raises it",
    r".*\.State": "a method makes it",
    r"(problems\.Example|datasets\.(Images|Series))": "a record that the library returns",
    r"(EKI|ETKI|ALDI|GNKI|UKI|LossEKI|CurvatureEKI|TemperedSMC|Nesterov|Inflated|Sparse)"
    r"\.(init|ask|tell|finished|select|map_members|redraws|nodes|drawn)": OF_THE_LOOP,
    r"(FixedStep|NormStep|MisfitController|ESMDA)\.(step|given_up)": OF_THE_LOOP,
    r"GaussianStart\.(moved|mixed|log_density)": OF_THE_LOOP,
    r".*\.placed": OF_THE_LOOP,
    r"QuadraticRegressor\.(fit|predict)_components": OF_AN_EMULATOR,
    r"localization\.\w+\.(located|strengths|with_strength)": OF_THE_LOOP,
    r"(Discrepancy|Collapsed|NoProgress)\.(check|distance|reached|check_problem)": OF_THE_LOOP,
    r"\w+Flow\.(acceleration|advance|diffusion|increment_shape|samples_posterior)": OF_THE_LOOP,
    r"\w+Flow\.check_problem": OF_THE_LOOP,
    r"(InverseProblem\.(seen|n_data_of)|Spread\.(at|due))": OF_THE_LOOP,
    r"(MiniBatches|OnlineData|ObservationSeries)\.(batch|part|take)": OF_THE_LOOP,
    r"(ObservationSeries\.noises|Observation\.noise_from|UnknownNoise\.bound)": OF_A_PROBLEM,
    r"(Base)?Prior\.(forward|inverse|log_density)": OF_A_PRIOR,
    r"(Dirichlet|Hierarchical|Ordered)\.(forward|inverse|log_density)": OF_A_PRIOR,
}
"""Public callables that are not swept, as patterns, and why."""


def public() -> dict[str, Callable[..., Any]]:
    """Every public function, class and method with arguments, by its name below ``ekitools``."""
    tops = {name: getattr(ek, name) for name in PUBLIC}
    for module in ("theory", "problems", "datasets", "testing", "localization"):
        namespace = getattr(ek, module)
        tops |= {f"{module}.{name}": getattr(namespace, name) for name in namespace.__all__}
    for module, names in ADAPTERS.items():
        if module == "command" or find_spec(module) is not None:
            adapter = import_module(f"ekitools.adapters.{module}")
            tops |= {f"adapters.{module}.{name}": getattr(adapter, name) for name in names}
    found = dict(tops)
    for name, each in tops.items():
        if inspect.isclass(each):
            found |= {f"{name}.{method}": call for method, call in _methods(each)}
    found |= {f"Dataset.eki.{method}": call for method, call in _methods(ResultAccessor)}
    return {name: each for name, each in found.items() if arguments(each)}


def arguments(call: Callable[..., Any]) -> list[str]:
    """The names of its arguments."""
    try:
        names = list(inspect.signature(call).parameters)
    except ValueError:  # an exception has no signature
        return ["args"]
    return [name for name in names if name != "self"]


def _methods(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Its public methods, those of the library's base classes included."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("ekitools.")]
    for name in dict.fromkeys(name for base in bases for name in vars(base)):
        call = getattr(cls, name)
        if not name.startswith("_") and callable(call):
            yield name, call


def why_not(name: str) -> str | None:
    """Why a public callable is not swept; None where it is."""
    return next((why for rule, why in NOT_SWEPT.items() if re.fullmatch(rule, name)), None)


def found(name: str, row: Row) -> Callable[..., Any]:
    """The callable of a row: of methods that of an object, made anew."""
    *path, last = name.partition("(")[0].split(".")
    if row.of is not None:
        return getattr(row.of(), last)
    owner: Any = ek
    if path[:1] == ["adapters"]:
        owner, path = import_module(f"ekitools.adapters.{path[1]}"), path[2:]
    for each in path:
        owner = getattr(owner, each)
    return getattr(owner, last)


def called(call: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Call with arguments by name, also those that are positional only."""
    parameters = inspect.signature(call).parameters.items()
    places = [name for name, each in parameters if each.kind is each.POSITIONAL_ONLY]
    rest = {name: value for name, value in values.items() if name not in places}
    return call(*(values[name] for name in places), **rest)


def outcome(name: str, argument: str, value: Any) -> str | None:
    """What is wrong with the answer to a wrong value; None where it is as it should be."""
    row = TABLE[name]
    call, values = found(name, row), {**row.right(), argument: value}
    errors = row.kinds[argument].errors
    runs, figures = len(RUNS), _figures()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing", FutureWarning)
        try:
            called(call, values)
        except errors as error:
            answer = _judged(argument, error, errors)
        except BaseException as error:
            answer = f"ends in {error!r:.200}"
        else:
            answer = "is accepted"
    if len(RUNS) > runs:
        return f"costs {len(RUNS) - runs} model runs, and {answer or 'is refused'}"
    if _figures() > figures:
        sys.modules["matplotlib.pyplot"].close("all")
        return f"opens a figure, and {answer or 'is refused'}"
    return answer


def _figures() -> int:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return len(pyplot.get_fignums()) if pyplot else 0


def _judged(argument: str, error: Exception, errors: tuple[type[Exception], ...]) -> str | None:
    """Whether the message names the argument before a colon, the rule, and what was given."""
    head, _, sentence = str(error).partition(": ")
    named = AssertionError in errors or re.search(rf"\b{re.escape(argument)}\b", head)
    if named and re.search(r"\bmust\b.* got ", sentence, re.DOTALL):
        return None
    return f"ends in {error!r:.200}"


def answers(name: str) -> Iterator[tuple[str, str, str, str | None]]:
    """For every wrong value of a row: argument, kind, value, and what is wrong with the answer."""
    for argument, of in TABLE[name].kinds.items():
        for label, value in of.values():
            yield argument, of.name, label, outcome(name, argument, value)


def attack(report: Callable[[str], Any] = print) -> list[tuple[str, int, int]]:
    """Rows (kind of argument, wrong values tried, wrong values refused as they should be).

    ``report`` is given a line for every value that is not.
    """
    tried: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for name in TABLE:
        for argument, of, label, wrong in answers(name):
            tried[of] += 1
            held[of] += wrong is None
            if wrong is not None:
                report(f"{name}({argument}={label}): {wrong}")
    return [(of, tried[of], held[of]) for of in sorted(tried)]
