"""Darcy flow with the log-permeabilities of the cells as parameters."""

from __future__ import annotations

import numpy as np

from ekitools.core.arrays import as_rng
from ekitools.core.checks import integer, number
from ekitools.models.plain import FunctionModel
from ekitools.priors.matern import MaternField
from ekitools.problem import InverseProblem
from ekitools.problems import Example
from ekitools.problems._darcy import DarcyFlow, bilinear, grid_of_wells, names_of_wells
from ekitools.typing import Rng

__all__ = ["PressureOfCells", "darcy_field"]

_MOST_CELLS = 70
"""Largest number of cells in a direction: a `MaternField` has values at up to 5000 points."""


class PressureOfCells:
    """Forward model from log κ of all cells to pressures at the wells.

    Parameters
    ----------
    n : int
        Cells in each direction.
    wells : (d, 2)
        Coordinates of the wells in the unit square.
    """

    def __init__(self, n: int, wells: np.ndarray) -> None:
        self.flow = DarcyFlow(n)
        self.weights = bilinear(n, wells)

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Pressures ``(d,)`` for log κ ``(n²,)``."""
        n = self.flow.n
        return np.asarray(self.weights @ self.flow(np.exp(u.reshape(n, n))).ravel())


def darcy_field(
    n: int = 64,
    *,
    length: float = 0.1,
    n_wells: int = 100,
    noise: float = 1e-3,
    rng: Rng = 0,
) -> Example:
    """Estimate the log-permeability of every cell from pressures at a few wells.

    The prior of log κ is a `MaternField` of values with variance 1 and smoothness ν = 3/2, and the
    source is 1. The truth is a draw of the prior on the same grid, so credible
    intervals of the exact posterior cover their nominal share of the cells on average. The
    parameters have a location, so data can be localized by distance.

    Parameters
    ----------
    n : int, default 64
        Cells in each direction, at most 70: the prior holds a matrix of n⁴ entries.
    length : float, default 0.1
        Correlation length of log κ in the unit square.
    n_wells : int, default 100
        Number of wells on a regular grid, a square number.
    noise : float, default 1e-3
        Standard deviation of η. Pressures are about 0.05.
    rng : None, int or numpy.random.Generator
        Source of the truth and of the noise.

    Returns
    -------
    Example
        ``truth`` is log κ of all cells, ``(n²,)``. ``extra["cells"]`` has the centres of the cells,
        ``(n², 2)``, and ``extra["wells"]`` the coordinates of the wells, ``(n_wells, 2)``.

    Raises
    ------
    TypeError, ValueError
        If an option is of a wrong kind or out of range, or the number of wells is not a square.

    See Also
    --------
    ekitools.problems.darcy : The coefficients of a truncated expansion are the parameters.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.darcy_field(n=16, n_wells=9)
    >>> example.problem.n_parameters, example.problem.n_data
    (256, 9)
    >>> example.extra["cells"][:2]
    array([[0.03125, 0.03125],
           [0.03125, 0.09375]])
    """
    n = integer("n", n, least=2, most=_MOST_CELLS)
    length, noise = number("length", length, above=0), number("noise", noise, above=0)
    n_wells, rng = integer("n_wells", n_wells), as_rng(rng)
    wells = grid_of_wells(n_wells)
    centres = (np.arange(n) + 0.5) / n
    cells = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
    prior = MaternField(cells, length=length, nu=1.5, parameters="values")
    model = PressureOfCells(n, wells)
    truth = prior.sample(1, rng=rng)[0]
    data = model(truth) + noise * rng.standard_normal(n_wells)
    return Example(
        InverseProblem(
            FunctionModel(model), prior, noise**2, data, data_names=names_of_wells(wells)
        ),
        reference=None,
        truth=truth,
        x=np.arange(n_wells, dtype=float),
        groups=None,
        extra={"cells": cells, "wells": wells},
    )
