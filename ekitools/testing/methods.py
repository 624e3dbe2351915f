"""Contract checks for user-defined methods: `check_method`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ekitools.core.checks import integer
from ekitools.problem import InverseProblem, check_problem
from ekitools.testing.method_contract import (
    check_members,
    check_method_options,
    check_state,
)
from ekitools.testing.method_members import (
    check_failures,
    check_nodes,
    check_permutation,
    check_select,
)
from ekitools.testing.method_runs import (
    check_float32,
    check_in_place,
    check_momentum,
    check_on_disk,
    check_resume,
)
from ekitools.testing.method_steps import check_end, check_info, check_purity, check_spread
from ekitools.testing.promises import run_checks, seed_of
from ekitools.testing.trial import Trial, linear_problem
from ekitools.typing import Quadrature, Rng

__all__ = ["CHECKS", "check_method"]

CHECKS: Mapping[str, Callable[[Trial], None]] = MappingProxyType(
    {
        "members": check_members,
        "options": check_method_options,
        "state": check_state,
        "purity": check_purity,
        "info": check_info,
        "spread": check_spread,
        "end": check_end,
        "select": check_select,
        "nodes": check_nodes,
        "permutation": check_permutation,
        "float32": check_float32,
        "in_place": check_in_place,
        "on_disk": check_on_disk,
        "failures": check_failures,
        "resume": check_resume,
        "momentum": check_momentum,
    }
)


def check_method(
    method: Any,
    *,
    problem: InverseProblem | None = None,
    n_members: int = 9,
    rng: Rng = 0,
    exclude: str | Sequence[str] = (),
) -> None:
    """Check that a method keeps every promise of `ekitools.typing.Method`.

    The method makes several short runs of a small problem. The checks depend on the abilities that
    the method declares. For example, a `ekitools.typing.Sampler` may change the order of its
    members, and a `ekitools.typing.Quadrature` places the members at its nodes.

    Parameters
    ----------
    method : Method
        An object of your class, with the options to check.
    problem : InverseProblem, optional
        The problem for the runs. By default a linear problem with three parameters and four data.
        The model must not fail at draws of the prior.
    n_members : int, default 9
        Ensemble size J, at least 5. It should differ from the number of parameters and from the
        number of data, because the checks assume that an array with J rows has one row per
        member. A `ekitools.typing.Quadrature` chooses the number of members itself.
    rng : None, int or numpy.random.Generator, default 0
        Source of all randomness.
    exclude : str or sequence of str, default ()
        Names of checks to omit (see Notes).

    Raises
    ------
    AssertionError
        If a promise is broken or a member of the contract is missing. The message contains the
        name of the member, the rule, the finding and the remedy.
    TypeError, ValueError
        If another argument is invalid.

    See Also
    --------
    check_schedule : Check of a step rule, such as an option of your method.
    ekitools.typing.Method : The contract.

    Notes
    -----
    The checks run in this order:

    ``members``
        All members of the contract exist, with the right arguments. ``State``, ``aim``,
        ``normalisation`` and declared abilities have values of the right type.
    ``options``
        The method is a frozen dataclass that can be compared, hashed and pickled. It always has
        the same JSON.
    ``state``
        States are of the class ``State``, with fields that a checkpoint can hold. ``ask`` returns
        members ``(J, p)`` before and after each step.
    ``purity``
        The same state, outputs and randomness give the same step. No argument is changed in
        place, and the states of earlier steps stay valid.
    ``info``
        Every ``StepInfo`` has the misfit of each member, numbers that JSON can hold, and the same
        names in ``extra``. A sampler has ``shown``.
    ``spread``
        The reported spread is the spread of the members, relative to the initial ensemble.
    ``end``
        ``finished`` and ``tell`` agree on the end, and the end leaves the state unchanged.
    ``select``
        ``select`` returns the state of an ensemble of the selected members. ``map_members``, if
        declared, agrees with ``select``. A `ekitools.typing.Quadrature` accepts only a selection
        of all members.
    ``nodes``
        The nodes of a `ekitools.typing.Quadrature` represent the Gaussian of its draws.
    ``permutation``
        Without noise, a step does not depend on the order of the members.
    ``float32``
        A float32 ensemble stays float32.
    ``in_place``
        An update in place, if declared, gives the same step.
    ``on_disk``
        A run with the ensemble on disk, if ``by_coefficients`` is declared, gives the same result
        as a run in memory.
    ``failures``
        A run continues when failed members run again, are dropped or are replaced. A sampler and
        a `ekitools.typing.Quadrature` get rows of NaN.
    ``resume``
        A run that is resumed after any of its steps is bitwise equal to an uninterrupted run.
    ``momentum``
        ``Nesterov(method)`` runs, unless the method is a sampler or a
        `ekitools.typing.Quadrature`.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import ekitools as ek
    >>> from ekitools.testing import check_method
    >>> check_method(ek.EKI(ek.ESMDA(4)))
    >>> @dataclass(frozen=True)
    ... class Hasty(ek.EKI):
    ...     def select(self, state, index):  # forgets the variance of the ensemble
    ...         return state._replace(ensemble=state.ensemble[index])
    >>> try:
    ...     check_method(Hasty(), exclude=("options",))
    ... except AssertionError as error:
    ...     print(error)
    select: the state must be the state of an ensemble of the selected members, ...
    """
    if isinstance(method, type):
        raise TypeError(
            f"method: must be an object such as {method.__name__}(), got the class itself."
        )
    if problem is None:
        problem = linear_problem()
    check_problem(problem)
    n_members = integer("n_members", n_members, least=5)
    if isinstance(method, Quadrature):
        n_members = len(method.nodes(problem))
    trial = Trial(method, problem, n_members, seed_of(rng))
    run_checks(CHECKS, exclude, trial)
