"""Darcy flow: permeability from the pressures at a few wells."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from ekitools.core.arrays import as_rng
from ekitools.core.checks import integer, number
from ekitools.core.labels import distinct_decimals
from ekitools.models.plain import FunctionModel
from ekitools.priors.random_field import GaussianRandomField
from ekitools.problem import InverseProblem
from ekitools.problems import Example
from ekitools.typing import Rng

__all__ = [
    "DarcyFlow",
    "PressureAtWells",
    "bilinear",
    "darcy",
    "grid_of_wells",
    "names_of_wells",
]


class DarcyFlow:
    """Finite-volume solver of −∇·(κ ∇p) = f on the unit square with p = 0 on the boundary.

    The scheme uses the cells of an n × n grid, harmonic means of κ at faces and half cells at the
    boundary. It is of second order for smooth κ. The sparsity pattern is built once.

    Parameters
    ----------
    n : int
        Cells in each direction.
    source : float or (n, n), default 1
        Source f at the cell centres.
    """

    def __init__(self, n: int, source: float | np.ndarray = 1.0) -> None:
        self.n = integer("n", n)
        source = np.asarray(source, dtype=float)
        self.source = np.broadcast_to(source, (self.n, self.n)).copy()

    @cached_property
    def _pattern(self) -> tuple[sparse.csc_array, np.ndarray]:
        """The sparsity pattern with numbered entries, and the position of each number."""
        cells = np.arange(self.n**2).reshape(self.n, self.n)
        east = cells[:-1].ravel(), cells[1:].ravel()
        north = cells[:, :-1].ravel(), cells[:, 1:].ravel()
        a, b = np.concatenate([east, north], axis=1)
        every = cells.ravel()
        rows, columns = np.concatenate([every, a, b]), np.concatenate([every, b, a])
        numbers = np.arange(1.0, len(rows) + 1)
        matrix = sparse.csc_array(sparse.coo_array((numbers, (rows, columns))))
        return matrix, matrix.data.astype(int) - 1

    def __call__(self, permeability: np.ndarray) -> np.ndarray:
        """Pressure at the cell centres, ``(n, n)``, for κ ``(n, n)``."""
        source = self.source.ravel() / self.n**2
        return np.asarray(self.factor(permeability).solve(source).reshape(self.n, self.n))

    def factor(self, permeability: np.ndarray) -> Any:
        """Factors of the symmetric system for κ ``(n, n)``."""
        resistance = 0.5 / permeability
        east = 1 / (resistance[:-1] + resistance[1:])
        north = 1 / (resistance[:, :-1] + resistance[:, 1:])
        diagonal = np.zeros((self.n, self.n))
        diagonal[:-1] += east
        diagonal[1:] += east
        diagonal[:, :-1] += north
        diagonal[:, 1:] += north
        wall = 1 / resistance  # half a cell to the boundary
        diagonal[0] += wall[0]
        diagonal[-1] += wall[-1]
        diagonal[:, 0] += wall[:, 0]
        diagonal[:, -1] += wall[:, -1]
        faces = np.concatenate([east.ravel(), north.ravel()])
        matrix, order = self._pattern
        values = np.concatenate([diagonal.ravel(), -faces, -faces])[order]
        system = sparse.csc_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)
        return splu(
            system,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )


class PressureAtWells:
    """Forward model from coefficients of the log-permeability to pressures at the wells.

    Parameters
    ----------
    field : GaussianRandomField
        Field that maps coefficients to log κ on an n × n grid.
    wells : (d, 2)
        Coordinates of the wells in the unit square.
    """

    def __init__(self, field: GaussianRandomField, wells: np.ndarray) -> None:
        self.field = field
        self.flow = DarcyFlow(field.shape[0])
        self.weights = bilinear(field.shape[0], wells)

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Pressures ``(d,)`` for coefficients ``(p,)``."""
        return self.weights @ self.flow(np.exp(self.field.field(u))).ravel()


def darcy(
    n: int = 64, n_modes: int = 64, *, n_wells: int = 49, noise: float = 1e-3, rng: Rng = 0
) -> Example:
    """Estimate a log-permeability field from pressures at a few wells.

    The prior of log κ is a Gaussian random field (α = 2, τ = 3, sd = 1), and the source is 1. The
    data come from a truth with all modes of a grid twice as fine, so they do not come from the
    model of the inversion.

    Parameters
    ----------
    n : int, default 64
        Cells in each direction.
    n_modes : int, default 64
        Number of parameters, which are Karhunen–Loève coefficients of log κ.
    n_wells : int, default 49
        Number of wells on a regular grid, a square number.
    noise : float, default 1e-3
        Standard deviation of η. Pressures are about 0.05.
    rng : None, int or numpy.random.Generator
        Source of the truth and of the noise.

    Returns
    -------
    Example
        ``truth`` is log κ on the fine grid. ``extra["field"]`` is the prior, whose method ``field``
        maps members to log κ. ``extra["wells"]`` has the coordinates of the wells.

    Raises
    ------
    TypeError, ValueError
        If an option is of a wrong kind or out of range, or the number of wells is not a square.

    See Also
    --------
    ekitools.problems.darcy_field : The log-permeabilities of the cells are the parameters.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.darcy(n=16, n_modes=8, n_wells=9)
    >>> example.problem.n_parameters, example.problem.n_data
    (8, 9)
    """
    n, n_wells = integer("n", n, least=2), integer("n_wells", n_wells)
    noise, rng = number("noise", noise, above=0), as_rng(rng)
    wells = grid_of_wells(n_wells)
    field = GaussianRandomField((n, n), n_modes=n_modes)
    fine = GaussianRandomField((2 * n, 2 * n))
    made = PressureAtWells(fine, wells)
    coefficients = fine.sample(1, rng=rng)[0]
    data = made(coefficients) + noise * rng.standard_normal(n_wells)
    problem = InverseProblem(
        FunctionModel(PressureAtWells(field, wells)),
        field,
        noise**2,
        data,
        data_names=names_of_wells(wells),
    )
    return Example(
        problem,
        reference=None,
        truth=fine.field(coefficients),
        x=np.arange(n_wells, dtype=float),
        groups=None,
        extra={"field": field, "wells": wells},
    )


def grid_of_wells(n_wells: int) -> np.ndarray:
    """Coordinates ``(n_wells, 2)`` of a regular grid within the unit square."""
    side = math.isqrt(n_wells)
    if side**2 != n_wells:
        raise ValueError(f"n_wells: must be a square number, got {n_wells}.")
    along = (np.arange(side) + 1) / (side + 1)
    return np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)


def names_of_wells(wells: np.ndarray) -> list[str]:
    """Names of the pressures at the wells, with coordinates."""
    decimals = distinct_decimals(np.unique(wells), least=3)
    return [f"p({x:.{decimals}f}, {y:.{decimals}f})" for x, y in wells]


def bilinear(n: int, points: np.ndarray) -> sparse.csr_array:
    """Interpolation from cell centres to points at least half a cell from the boundary."""
    scaled = points * n - 0.5
    low = np.clip(np.floor(scaled).astype(int), 0, n - 2)
    part = scaled - low
    rows, columns, values = [], [], []
    for di in (0, 1):
        for dj in (0, 1):
            rows.append(np.arange(len(points)))
            columns.append((low[:, 0] + di) * n + low[:, 1] + dj)
            values.append(np.abs(1 - di - part[:, 0]) * np.abs(1 - dj - part[:, 1]))
    entries = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array((np.concatenate(values), entries), shape=(len(points), n * n))
