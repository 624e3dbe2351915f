"""Forward models: functions and matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from ekitools.core.arrays import as_real, check_array, digest, host, is_numpy, like
from ekitools.core.checks import flag, function, put
from ekitools.core.indices import kept_indices
from ekitools.typing import Array

__all__ = ["FunctionModel", "LinearModel"]


@dataclass(frozen=True)
class FunctionModel:
    """A Python function as the black box G.

    Parameters
    ----------
    fn : callable
        ``fn(u) -> (d,)`` for one member ``u`` of shape ``(p,)``, or the vectorized form
        ``fn(U) -> (J, d)`` for an ensemble ``(J, p)``.
    vectorized : bool, default False
        Whether ``fn`` takes an ensemble.
    stochastic : bool, default False
        Whether ``fn`` also receives ``rng=``, a separate Generator for every member and
        iteration. The result then does not depend on the worker that evaluates a member.
    takes_inputs : bool, default False
        Whether ``fn`` also receives ``inputs=``. With `MiniBatches` and `OnlineData` these are the
        inputs ``(m, ...)`` of the samples of a step, and ``fn`` returns their outputs one after
        the other, d = m k. With an `ObservationSeries` they are the inputs of one `Observation`.

    Raises
    ------
    TypeError
        If ``fn`` cannot be called, or an option is not True or False.
    ValueError
        If both ``vectorized`` and ``stochastic`` are True.

    See Also
    --------
    LinearModel : A matrix as a model.
    XarrayModel : A function of labelled arrays.
    ekitools.adapters.command.CommandModel : A program as a model.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> model = ek.FunctionModel(lambda u: np.exp(-u))
    >>> model(np.zeros(2))
    array([1., 1.])
    """

    fn: Callable[..., Any]
    vectorized: bool = False
    stochastic: bool = False
    takes_inputs: bool = False

    def __post_init__(self) -> None:
        function("fn", self.fn)
        for name in ("vectorized", "stochastic", "takes_inputs"):
            put(self, **{name: flag(name, getattr(self, name))})
        if self.vectorized and self.stochastic:
            raise ValueError(
                "stochastic: must be False with vectorized=True, because every member needs "
                "its own Generator. Leave vectorized=False and use an executor for speed."
            )

    def __call__(self, u: Array, /, **kwargs: Any) -> Array:
        """The return value of ``fn``."""
        return self.fn(u, **kwargs)

    def __repr__(self) -> str:
        name = getattr(self.fn, "__qualname__", type(self.fn).__qualname__)
        names = ("vectorized", "stochastic", "takes_inputs")
        options = [f"{o}=True" for o in names if getattr(self, o)]
        return f"FunctionModel({', '.join([name, *options])})"


class LinearModel:
    """G(u) = A u for a dense or sparse matrix, or a linear operator.

    Parameters
    ----------
    A : (d, p) array, scipy.sparse matrix, or scipy.sparse.linalg.LinearOperator
        The matrix; a dense matrix is copied.

    Attributes
    ----------
    shape : tuple of int
        (d, p).
    matrix : ndarray, sparse array or LinearOperator
        The matrix A.

    Raises
    ------
    TypeError, ValueError
        If A is not two-dimensional, real and finite.

    See Also
    --------
    FunctionModel : A Python function as a model.
    ekitools.theory.posterior : The exact posterior of a linear model.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> model = ek.LinearModel([[1.0, 2.0], [0.0, 1.0], [1.0, 0.0]])
    >>> model.shape
    (3, 2)
    >>> model(np.array([[1.0, 1.0]]))
    array([[3., 1., 1.]])
    """

    vectorized = True
    stochastic = False

    def __init__(self, A: Any) -> None:
        if isinstance(A, LinearOperator):
            if np.issubdtype(A.dtype, np.complexfloating):
                raise TypeError(f"A: must be real, got a LinearOperator of dtype {A.dtype}.")
            self.matrix = A
        elif sparse.issparse(A):
            as_real("A", A.data)
            self.matrix = sparse.csr_array(A, copy=True)
        else:
            self.matrix = as_real("A", A, ndim=(2,)).copy()
            self.matrix.flags.writeable = False
        self.shape = (int(self.matrix.shape[0]), int(self.matrix.shape[1]))
        if 0 in self.shape:
            raise ValueError(f"A: must have rows and columns, got shape {self.shape}.")

    def __call__(self, u: Array, /) -> Array:
        """A u for ``(p,)`` or every row of ``(J, p)``."""
        return self._product(u, adjoint=False)

    def adjoint(self, r: Array, /) -> Array:
        """Aᵀ r for ``(d,)`` or every row of ``(J, d)``.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.LinearModel([[1.0, 2.0]]).adjoint(np.array([3.0]))
        array([3., 6.])
        """
        check_array("r", r, last=self.shape[0])
        return self._product(r, adjoint=True)

    def rows(self, kept: Any) -> LinearModel:
        """The model of a part of the data: ``kept`` is a mask ``(d,)`` or has indices of rows of A.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.LinearModel([[1.0], [2.0]]).rows(np.array([False, True])).matrix
        array([[2.]])
        """
        index = kept_indices(kept, self.shape[0])
        if not isinstance(self.matrix, LinearOperator):
            return LinearModel(self.matrix[index])
        selection = sparse.eye_array(self.shape[0], format="csr")[index]
        return LinearModel(aslinearoperator(selection) @ self.matrix)

    def fingerprint(self) -> str:
        """A short text that identifies a matrix; a linear operator only by its shape."""
        if isinstance(self.matrix, np.ndarray):
            return digest(self.matrix)
        if isinstance(self.matrix, LinearOperator):
            return digest(self.shape)
        return digest(self.matrix.indptr, self.matrix.indices, self.matrix.data)

    def __repr__(self) -> str:
        return f"LinearModel({type(self.matrix).__name__} of shape {self.shape})"

    def _product(self, x: Array, *, adjoint: bool) -> Array:
        matrix = self.matrix.T if adjoint else self.matrix
        if isinstance(matrix, np.ndarray):
            return x @ like(matrix, x).T
        rows = host(x)
        product = (matrix @ rows.T).T
        if rows.ndim == 2:
            product = np.ascontiguousarray(product)
        return product.astype(x.dtype, copy=False) if is_numpy(x) else like(product, x)
