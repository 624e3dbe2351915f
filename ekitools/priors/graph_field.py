"""Gaussian fields on the nodes of a graph, by the leading eigenvectors of its Laplacian."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree

from ekitools.core.arrays import as_real, digest
from ekitools.core.checks import integer, number
from ekitools.priors.base import check_points
from ekitools.priors.gaussian import GaussianPrior
from ekitools.priors.transforms import Interval, Transform, pointwise

__all__ = ["GraphField", "graph_laplacian"]

_DENSE = 600
"""Largest number of nodes for a dense eigendecomposition, which is then faster and safer."""


def graph_laplacian(points: Any, *, n_neighbours: int = 10) -> sparse.csr_array:
    r"""Symmetric normalised Laplacian of the nearest-neighbour graph of points.

    .. math::
        L = I - D^{-1/2} W D^{-1/2}, \qquad
        W_{ij} = \exp\{-|x_i - x_j|^2 / (\sigma_i \sigma_j)\},

    if one of the two points is among the k nearest neighbours of the other, else W_ij = 0. σ_i is
    the distance of x_i to its k-th neighbour, so weights adapt to the density of the points [1]_.
    D holds the row sums of W. Eigenvalues are between 0 and 2, and the number of zero eigenvalues
    is the number of components of the graph [2]_.

    Parameters
    ----------
    points : (n, q)
        Features x_i, all in the same unit.
    n_neighbours : int, default 10
        Number of neighbours k.

    Returns
    -------
    (n, n) scipy.sparse.csr_array
        The Laplacian L, with at most about 2 k n entries.

    Raises
    ------
    TypeError, ValueError
        If points are not finite or k is not between 1 and n − 1, or if a point is
        repeated so often that the distance to its k-th neighbour is zero.

    See Also
    --------
    GraphField : Gaussian field on the nodes of a graph.

    References
    ----------
    .. [1] Zelnik-Manor & Perona (2004), Advances in Neural Information Processing Systems 17.
    .. [2] von Luxburg (2007), Stat. Comput. 17, 395-416.

    Examples
    --------
    >>> import ekitools as ek
    >>> laplacian = ek.graph_laplacian([[0.0], [1.0], [2.0], [3.0]], n_neighbours=1)
    >>> laplacian.diagonal()
    array([1., 1., 1., 1.])
    """
    x = as_real("points", points, ndim=(2,)).astype(np.float64, copy=False)
    n = len(x)
    if x.size == 0:
        raise ValueError(f"points: must have one row for each point, got shape {x.shape}.")
    remedy = f"There are n = {n} points."
    n_neighbours = integer("n_neighbours", n_neighbours, most=n - 1, remedy=remedy)
    distance, neighbour = cKDTree(x).query(x, k=n_neighbours + 1)
    scale = distance[:, -1]
    if not np.all(scale > 0):
        raise ValueError(
            f"points: must have fewer than {n_neighbours + 1} copies of each, got more of point "
            f"{int(np.argmin(scale))}. Drop repeated points or increase n_neighbours."
        )
    rows = np.repeat(np.arange(n), n_neighbours + 1)
    columns = neighbour.ravel()
    weights = np.exp(-(distance.ravel() ** 2) / (scale[rows] * scale[columns]))
    other = rows != columns  # a point is its own neighbour unless a copy of it exists
    W = sparse.csr_array((weights[other], (rows[other], columns[other])), shape=(n, n))
    return sparse.csr_array(csgraph.laplacian(W.maximum(W.T), normed=True))


class GraphField(GaussianPrior):
    r"""A Gaussian field on the nodes of a graph, as a prior on its coefficients.

    The covariance is proportional to (L + τ²I)^{−α} with the Laplacian L of the graph [1]_, in the
    span of the eigenvectors φ_k of its p smallest eigenvalues λ_k,

    .. math::
        a_i = T\Bigl(m + s \sum_k \sqrt{\mu_k}\, u_k\, \varphi_k(i)\Bigr), \qquad
        \mu_k = c\,(\lambda_k + \tau^2)^{-\alpha}, \qquad u_k \sim N(0, 1),

    with Σ_i φ_k(i)² = 1 and c such that s² is the average variance over the nodes. The
    parameters are the u_k. Observations at some nodes are linear in the parameters:
    ``LinearModel(field.basis[nodes])``.

    Parameters
    ----------
    laplacian : (n, n)
        L: sparse or dense, symmetric, without negative eigenvalues, such as `graph_laplacian`
        or `scipy.sparse.csgraph.laplacian` returns.
    alpha : float, default 1
        Smoothness α > 0.
    tau : float, default 0.1
        τ > 0. Modes with λ well below τ² have about the same variance as the constant mode.
    sd : float, default 1
        Amplitude s, root of the average variance over the nodes.
    mean : float, default 0
        Level m.
    n_modes : int, optional
        Number p of modes kept; min(100, n) by default. The modes of clusters come first.
    transform : None, "exp" or ("bounded", lower, upper), default None
        T at every node: the identity, exp for a positive field, or the logistic function
        scaled to an interval. ``mean`` and ``sd`` refer to the field before the transform.

    Attributes
    ----------
    eigenvalues : (p,) ndarray
        λ_k, increasing.
    scales : (p,) ndarray
        s √μ_k, the standard deviation of each mode.
    basis : (n, p) ndarray
        s √μ_k φ_k(i), so that a field is T(m + basis u).

    Raises
    ------
    TypeError, ValueError
        If an option is out of range, or L is not square and symmetric or has a negative
        eigenvalue.

    See Also
    --------
    graph_laplacian : Laplacian of the nearest-neighbour graph of points.
    MaternField : Gaussian field at points, with a correlation length.

    Notes
    -----
    For more than 600 nodes, the Lanczos iteration (`scipy.sparse.linalg.eigsh`) with a fixed start
    is applied to cI − L, where c is a bound of the spectrum. It needs only products with L. The
    eigenvectors of equal eigenvalues are an arbitrary basis of their eigenspace.

    References
    ----------
    .. [1] Bertozzi, Luo, Stuart & Zygalakis (2018), SIAM/ASA J. Uncertainty Quantification 6,
       568-595.

    Examples
    --------
    Two pairs of points, one label in each:

    >>> import ekitools as ek
    >>> laplacian = ek.graph_laplacian([[0.0], [0.1], [5.0], [5.1]], n_neighbours=1)
    >>> prior = ek.GraphField(laplacian)
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel(prior.basis[[0, 2]]), prior, 0.01, [1.0, -1.0])
    >>> result = ek.run(problem, ek.EKI(), n_members=200, rng=0)
    >>> prior.field(result.u[-1].mean("member")).round()
    array([ 1.,  1., -1., -1.])
    """

    _transform = Interval()

    def __init__(
        self,
        laplacian: Any,
        *,
        alpha: float = 1.0,
        tau: float = 0.1,
        sd: float = 1.0,
        mean: float = 0.0,
        n_modes: int | None = None,
        transform: Transform = None,
    ) -> None:
        self._transform = pointwise(transform)
        alpha, tau = number("alpha", alpha, above=0), number("tau", tau, above=0)
        sd, mean = number("sd", sd, above=0), number("mean", mean)
        L = _checked(laplacian)
        n = L.shape[0]
        if n_modes is None:
            n_modes = min(100, n)
        remedy = f"The graph has {n} nodes."
        n_modes = integer("n_modes", n_modes, most=n, remedy=remedy)
        values, vectors = _smallest(L, n_modes)
        variances = (values + tau**2) ** -alpha
        super().__init__(np.zeros(n_modes), 1.0)
        self.eigenvalues = values
        self.scales = sd * np.sqrt(n * variances / variances.sum())
        self.basis = vectors * self.scales
        self.level = mean
        for array in (self.eigenvalues, self.scales, self.basis):
            array.flags.writeable = False
        transformed = () if transform is None else (self._transform,)
        options = (alpha, tau, sd, mean, n_modes, *transformed)
        self._identity = digest("GraphField", options, L.indptr, L.indices, L.data)
        self.names = tuple(f"mode {k}" for k in range(n_modes))

    def __repr__(self) -> str:
        return f"GraphField(n={len(self.basis)}, p={self.n_parameters})"

    def field(self, u: Any) -> np.ndarray:
        """Values at the nodes: u ``(p,)`` to ``(n,)``, ``(J, p)`` to ``(J, n)``.

        Examples
        --------
        >>> import ekitools as ek
        >>> pair = ek.GraphField([[1.0, -1.0], [-1.0, 1.0]], mean=3.0)
        >>> pair.field([0.0, 0.0])
        array([3., 3.])
        """
        u = check_points(u, self.n_parameters)
        return np.asarray(self._transform.forward(self.level + u @ self.basis.T))

    def fingerprint(self) -> str:
        """A short text that changes whenever the field's distribution does."""
        return self._identity


def _checked(laplacian: Any) -> sparse.csr_array:
    """The Laplacian as a sparse matrix in canonical form, checked to be symmetric and finite."""
    if not sparse.issparse(laplacian):
        laplacian = as_real("laplacian", laplacian, ndim=(2,))
    L = sparse.csr_array(laplacian, dtype=np.float64, copy=True)
    L.sum_duplicates()
    if L.shape[0] != L.shape[1] or L.shape[0] == 0:
        raise ValueError(f"laplacian: must be a square matrix, got shape {L.shape}.")
    if not np.all(np.isfinite(L.data)):
        raise ValueError("laplacian: must be finite, got NaN or infinite entries.")
    asymmetry = float(abs(L - L.T).max())
    if asymmetry > 1e-10 * float(abs(L).max()):
        raise ValueError(
            f"laplacian: must be symmetric, got entries that differ by {asymmetry:.3g} from their "
            "transposes. The random-walk Laplacian is not symmetric: use the symmetric normalised "
            "one."
        )
    return L


def _smallest(L: sparse.csr_array, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` smallest eigenvalues, increasing, and their eigenvectors ``(n, count)``."""
    n = L.shape[0]
    bound = float(abs(L).sum(axis=1).max())  # Gershgorin's bound
    if n <= _DENSE or 2 * count >= n:
        values, vectors = np.linalg.eigh(L.toarray())
        values, vectors = values[:count], vectors[:, :count]
    else:
        start = np.random.default_rng(0).standard_normal(n)
        shifted = bound * sparse.eye_array(n, format="csr") - L
        values, vectors = eigsh(shifted, k=count, which="LA", v0=start)
        order = np.argsort(-values)
        values, vectors = bound - values[order], vectors[:, order]
    if values[0] < -1e-8 * bound:
        raise ValueError(
            f"laplacian: must have no negative eigenvalue, got {values[0]:.3g}. Use D - W or "
            "I - D^(-1/2) W D^(-1/2) with weights W >= 0."
        )
    largest = np.argmax(np.abs(vectors), axis=0)  # fix the sign, which is free
    vectors = vectors * np.sign(vectors[largest, np.arange(count)])
    return np.maximum(values, 0.0), vectors
