"""Any JAX function of a tree of parameters as a forward model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ekitools.adapters._shared import (
    check_members,
    check_variances,
    check_vector,
    checked_chunk,
)
from ekitools.core.arrays import as_array, as_real, host, like, unmasked
from ekitools.core.checks import integer
from ekitools.core.signatures import check_accepts
from ekitools.typing import Array

__all__ = ["JaxModel"]

_BUDGET, _BUDGET_ELSEWHERE = 2**23, 2**30
"""Bytes of the members of a chunk and their outputs, on a CPU and on other devices."""


class JaxModel:
    r"""G(u) = ``apply(params, inputs)``, where u is the tree of parameters as one flat vector.

    Parameters
    ----------
    apply : callable
        Pure function ``apply(params, x)`` that returns one array, such as the ``apply`` of a Flax
        or Haiku module. It is compiled once for every shape of the batch, and again only if the
        number of members grows.
    params : tree of arrays
        Any pytree of floating arrays, such as the initial parameters of the module. Its structure
        defines the order of u, by `jax.flatten_util.ravel_pytree`.
    inputs : array or tree of arrays, optional
        The batch ``x``. Without it, every call needs a batch, and each new shape is compiled.
    chunk : int, optional
        Number of members that are evaluated at once. Memory grows with it. By default the
        parameters and outputs of a chunk have 8 MiB on a CPU and 1 GiB elsewhere. Use fewer members
        if hidden layers are far larger. If there are fewer members than before, copies of the
        last member fill the chunk, so that the compiled function fits.

    Attributes
    ----------
    apply : callable
        The argument.
    params, inputs : trees of arrays
        The arguments as JAX arrays.
    chunk : int or None
        The argument.
    n_parameters : int
        Number of parameters p.
    shape : (int, int) or None
        (d, p) for a model with ``inputs``. A problem checks its data and prior against it.
    takes_inputs : bool
        Whether every call needs a batch.
    vectorized, stochastic : bool
        True and False: the model takes ensembles (J, p), and the same u gives the same output.

    Raises
    ------
    TypeError, ValueError
        If ``params`` has no arrays, or arrays that are not floating, or if ``apply`` cannot be
        traced with the shapes of ``params`` and ``inputs``.

    See Also
    --------
    ekitools.adapters.torch.TorchModel : A PyTorch module as a forward model.
    ekitools.FunctionModel : Any Python function as a forward model.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from ekitools.adapters.jax import JaxModel
    >>> def apply(params, x):
    ...     return jnp.tanh(x @ params["w"] + params["b"])
    >>> model = JaxModel(apply, {"b": jnp.zeros(1), "w": jnp.zeros((2, 1))}, np.eye(2))
    >>> model(np.array([[0.0, 1.0, -1.0]])).round(3)
    array([[ 0.762, -0.762]])
    >>> model.load(np.array([0.0, 1.0, -1.0]))["w"].ravel().tolist()
    [1.0, -1.0]
    """

    vectorized = True
    stochastic = False

    def __init__(
        self,
        apply: Callable[[Any, Any], Any],
        params: Any,
        inputs: Any = None,
        *,
        chunk: int | None = None,
    ) -> None:
        if not callable(apply):
            raise TypeError(
                f"apply: must be callable, got {type(apply).__name__}. Pass module.apply of a Flax "
                "module, for example."
            )
        check_accepts("apply", apply, "params", "x")
        self.chunk = checked_chunk(chunk)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            kind = getattr(unmasked("params", leaf), "dtype", type(leaf))
            if not isinstance(leaf, float) and not jnp.issubdtype(kind, jnp.floating):
                raise TypeError(
                    f"params: must be floating arrays, got {kind} at "
                    f"params{jax.tree_util.keystr(path)}. Keep constants in apply."
                )
        self.apply = apply
        self.params = jax.tree_util.tree_map(jnp.asarray, params)
        flat, self._unravel = ravel_pytree(self.params)
        self.n_parameters, self._dtype = int(flat.size), flat.dtype
        if self.n_parameters == 0:
            raise ValueError(
                "params: must have at least one array, got an empty tree. Pass the parameters that "
                "initialised the network."
            )
        self.inputs = None if inputs is None else _as_inputs(inputs, self._dtype)
        self.takes_inputs = inputs is None
        self._one = lambda u, x: apply(self._unravel(u), x).reshape(-1)
        self._many = jax.jit(jax.vmap(self._one, in_axes=(0, None)))
        self._chunks: dict[Any, int] = {}
        self.shape = None if inputs is None else (self._width(self.inputs), self.n_parameters)

    def __repr__(self) -> str:
        name = getattr(self.apply, "__qualname__", type(self.apply).__qualname__)
        return f"JaxModel({name}, p={self.n_parameters})"

    def __call__(self, u: Array, /, *, inputs: Any = None) -> Array:
        """Outputs ``(J, d)`` of members ``(J, p)``, or ``(d,)`` of one, ``(p,)``.

        Parameters
        ----------
        u : (J, p) or (p,)
            JAX, NumPy or another kind of array. The outputs have its kind, dtype and device, and
            are computed in the dtype of the parameters.
        inputs : array or tree of arrays, optional
            Batch for this call, such as a mini-batch or test data.
        """
        check_members(u, self.n_parameters)
        if inputs is None and self.inputs is None:
            raise ValueError(
                "inputs: must be given, got None. Pass a batch here, or one for all calls to "
                "JaxModel(apply, params, inputs)."
            )
        x = self.inputs if inputs is None else _as_inputs(inputs, self._dtype)
        g = self._evaluate(u if u.ndim == 2 else u[None, :], x)
        g = g if u.ndim == 2 else g[0]
        return g.astype(u.dtype) if isinstance(u, jax.Array) else like(g, u)

    def flat(self) -> np.ndarray:
        """``params`` as a vector ``(p,)``."""
        return np.asarray(ravel_pytree(self.params)[0])

    def load(self, u: Any) -> Any:
        """The tree of parameters of a vector u ``(p,)``, such as the mean of an ensemble."""
        u = self._rows(u if isinstance(u, jax.Array) else as_real("u", u))
        check_vector(u, self.n_parameters)
        return self._unravel(u)

    def glorot_variances(
        self,
        *,
        bias: float | None = None,
        other: float | None = None,
        in_axis: int = -2,
        out_axis: int = -1,
    ) -> np.ndarray:
        """Variances 2 / (fan_in + fan_out) of the Glorot normal prior, ``(p,)``.

        The fans are defined as in `jax.nn.initializers.glorot_normal`: all axes except
        ``in_axis`` and ``out_axis`` are the receptive field.

        Parameters
        ----------
        bias : float, optional
            Variance of vectors beside weights. The default is the variance of the first weights
            in the same branch of the tree with the same number of outputs.
        other : float, optional
            Variance of parameters without weights, such as the scales of normalisation layers. A
            prior mean of zero is wrong for them: use the mean ``flat()``.
        in_axis, out_axis : int
            Axes of inputs and outputs in weights: (-2, -1) in Flax and Haiku, (1, 0) in Equinox.

        Raises
        ------
        TypeError, ValueError
            If there are parameters without weights and ``other`` is not given, if a variance is
            not a positive number, or if some weights lack an axis.

        References
        ----------
        .. [1] X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward
           neural networks, AISTATS 2010, equation (16).

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from ekitools.adapters.jax import JaxModel
        >>> params = {"b": jnp.zeros(1), "w": jnp.zeros((3, 1))}
        >>> JaxModel(lambda params, x: x @ params["w"] + params["b"], params).glorot_variances()
        array([0.5, 0.5, 0.5, 0.5])
        """
        check_variances(bias=bias, other=other)
        in_axis = integer("in_axis", in_axis, least=None)
        out_axis = integer("out_axis", out_axis, least=None)
        for leaf in jax.tree_util.tree_leaves(self.params):
            axes = {
                axis % leaf.ndim for axis in (in_axis, out_axis) if -leaf.ndim <= axis < leaf.ndim
            }
            if leaf.ndim >= 2 and len(axes) < 2:
                raise ValueError(
                    f"in_axis, out_axis: must be two axes of all weights, got {in_axis} and "
                    f"{out_axis} for weights of shape {leaf.shape}. Use in_axis=-2 and out_axis=-1 "
                    "for weights of Flax."
                )
        leaves = jax.tree_util.tree_leaves_with_path(self.params)
        weights = [(path[:-1], leaf.shape) for path, leaf in leaves if leaf.ndim >= 2]
        parts = []
        for path, leaf in leaves:
            beside = [s for at, s in weights if at == path[:-1] and s[out_axis] == leaf.size]
            shape = leaf.shape if leaf.ndim >= 2 else (beside or [()])[0]
            if leaf.ndim == 1 and beside and bias is not None:
                variance = bias
            elif shape:
                fans = shape[in_axis] + shape[out_axis]
                variance = 2 / (fans * math.prod(shape) / (shape[in_axis] * shape[out_axis]))
            elif other is not None:
                variance = other
            else:
                raise ValueError(
                    "other: must be given a variance, got None, for parameters that belong to no "
                    f"weights, such as params{jax.tree_util.keystr(path)}. Pass other=1.0, for "
                    "example."
                )
            parts.append(np.full(leaf.size, variance))
        return np.concatenate(parts)

    def _evaluate(self, u: Array, x: Any) -> Any:
        n, size = int(u.shape[0]), self._members_at_once(int(u.shape[0]), x)
        parts = []
        for start in range(0, n, size):
            rows = self._rows(u[start : start + size])
            missing = size - rows.shape[0]
            if missing:
                rows = jnp.concatenate([rows, jnp.repeat(rows[-1:], missing, axis=0)])
            parts.append(self._many(rows, x))
        g = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        return g if g.shape[0] == n else g[:n]

    def _members_at_once(self, n: int, x: Any) -> int:
        """The number of rows of the compiled function, which grows up to the chunk."""
        member = self._dtype.itemsize * (self.n_parameters + self._width(x))
        budget = _BUDGET if jax.default_backend() == "cpu" else _BUDGET_ELSEWHERE
        most = self.chunk or max(1, budget // member)
        n_parts = -(-n // most)
        shapes = _shapes(x)
        self._chunks[shapes] = max(-(-n // n_parts), self._chunks.get(shapes, 1))
        return self._chunks[shapes]

    def _width(self, x: Any) -> int:
        """d, from the shapes alone; jax keeps what it has traced."""
        one = jax.ShapeDtypeStruct((self.n_parameters,), self._dtype)
        try:
            output = jax.eval_shape(self._one, one, x)
        except Exception as error:
            shapes = jax.tree_util.tree_map(lambda leaf: tuple(leaf.shape), x)
            raise ValueError(
                "inputs: must be the second argument of apply, and apply must return one array, "
                f"got inputs of shape {shapes}. Check that apply(params, inputs) runs: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not output.size or jnp.issubdtype(output.dtype, jnp.complexfloating):
            got = output.dtype if output.size else "none"
            raise ValueError(
                f"apply: must return one or more real numbers, got {got}. Return the real and the "
                "imaginary part of complex outputs."
            )
        return int(output.size)

    def _rows(self, part: Array) -> Any:
        part = part if isinstance(part, jax.Array) else host(part)
        return jnp.asarray(part, dtype=self._dtype)


def _shapes(x: Any) -> Any:
    """The tree, and the shapes and dtypes of its leaves, for which a function is compiled."""
    leaves, tree = jax.tree_util.tree_flatten(x)
    return tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)


def _as_inputs(inputs: Any, dtype: Any) -> Any:
    """JAX arrays; NumPy's floats in the dtype of the parameters."""

    def convert(x: Any) -> Any:
        if isinstance(x, jax.Array):
            return x
        x = as_array("inputs", x)
        if x.dtype.kind not in "fiubc":
            raise TypeError(
                f"inputs: must be arrays of numbers, got dtype {x.dtype}. Convert them to floats."
            )
        return jnp.asarray(x, dtype=dtype if x.dtype.kind == "f" else None)

    return jax.tree_util.tree_map(convert, inputs)
