"""`TorchModel`, a forward model of the parameters of a torch module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from ekitools.adapters._shared import check_members, check_vector, checked_chunk
from ekitools.adapters._torch_glorot import glorot_variances
from ekitools.adapters._torch_memory import first_chunk, give_up_cache
from ekitools.adapters._torch_module import (
    Entry,
    check_mode,
    common_kind,
    evaluating,
    layout_of,
    sizes_of_a_run,
)
from ekitools.adapters._torch_precision import (
    Precision,
    checked_precision,
    converted,
    products,
    working_dtype,
)
from ekitools.adapters._torch_recurrent import explicit_recurrence, is_explicit
from ekitools.adapters._torch_stack import Stack
from ekitools.core.arrays import as_array, as_real, host, like
from ekitools.core.checks import one_of
from ekitools.typing import Array

__all__ = ["TorchModel"]

Path: TypeAlias = Literal["auto", "stacked", "vmap", "loop"]
"""How members are evaluated."""
_PATHS: tuple[Path, ...] = get_args(Path)


class TorchModel:
    r"""A model G(u): the outputs of a torch module with parameters u on a batch of inputs.

    A member is the flat vector of the module's parameters in the order of
    ``module.named_parameters()``, the layout of `torch.nn.utils.parameters_to_vector`. The output
    of a member is the flattened output of the module on the batch. Parameters with
    ``requires_grad=False`` are constants and not part of u. A parameter that several layers share
    is in u once. No derivatives are computed.

    Parameters
    ----------
    module : torch.nn.Module
        Any module that takes one tensor and returns one tensor. It is evaluated in eval mode, and
        its modes are restored afterwards.
    inputs : array, optional
        The batch. Arrays are copied to the module's device; a tensor must be on this device
        already. Floats are converted to the module's dtype, and integers keep their dtype. Without
        a batch here, every call needs one.
    chunk : int, optional
        Number of members evaluated at once. Memory grows with this number. By default the
        activations fit into 8 MiB on a CPU (its cache), into half of the free memory of a CUDA
        device, and into 1 GiB elsewhere. If a CUDA device runs out of memory, the chunk is halved
        and evaluated again.
    path : {"auto", "stacked", "vmap", "loop"}, default "auto"
        Way of evaluation. ``"stacked"`` is for stacks of `Linear`, `Conv2d`, pooling, flattening
        and elementwise layers. It evaluates the first layer of all members of a chunk as one
        matrix product or one convolution. ``"vmap"`` is for other modules, including recurrent
        layers in one direction. ``"loop"`` evaluates member by member. It is for modules that
        `torch.vmap` cannot evaluate, such as recurrent layers in both directions, with projections
        or with an initial state.
    precision : {"float32", "tf32", "bfloat16", "float16"}, optional
        Precision of matrix products and convolutions of a float32 module. The outputs are float32.
        By default the module's dtype and torch's settings for TF32 apply; these allow TF32 for
        convolutions on CUDA devices. ``"float32"`` forbids TF32. ``"tf32"``, on CUDA devices only,
        rounds the factors of a product to 11 significant bits. ``"bfloat16"`` and ``"float16"``
        also store activations and the weights of a chunk with 8 and 11 significant bits. In
        float16, values beyond 65504 become infinite and their members fail.

    Attributes
    ----------
    module : torch.nn.Module
        The module.
    inputs : Tensor or None
        The batch.
    chunk : int or None
        The argument ``chunk``.
    path : {"stacked", "vmap", "loop"}
        The path in use. ``"vmap"`` becomes ``"loop"`` at the first call that needs it.
    precision : {"float32", "tf32", "bfloat16", "float16"} or None
        The argument ``precision``.
    n_parameters : int
        Number of parameters p.
    shape : (int, int) or None
        (d, p), or None without a batch.
    layout : mapping of str to Entry
        Slice of u and shape of every parameter, by name.
    takes_inputs : bool
        Whether every call needs a batch.
    vectorized, stochastic : bool
        True and False: the model takes ensembles (J, p), and equal u give equal outputs.

    Raises
    ------
    TypeError, ValueError
        If the module has no trainable parameters, has parameters of several dtypes or on several
        devices, or has dropout or batch normalisation in training mode; if the path is unsuitable
        for the module; if the module fails on the batch; if the module or its device does not
        support the precision.

    See Also
    --------
    ekitools.adapters.jax.JaxModel : A JAX function as a forward model.
    ekitools.LossEKI : Trains a network without derivatives.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import ekitools as ek
    >>> from ekitools.adapters.torch import TorchModel
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    >>> model = TorchModel(net, x)
    >>> prior = ek.GaussianPrior(0.0, model.glorot_variances())
    >>> problem = ek.InverseProblem(model, prior, 0.01, np.sin(2 * x).ravel())
    >>> result = ek.run(problem, ek.EKI(), n_members=100, rng=0)
    >>> mean = ek.intervals(result)["mean"].values
    >>> bool(np.sqrt(np.mean((model(mean) - problem.data) ** 2)) < 0.2)
    True
    >>> model.load(mean)  # back into net
    """

    vectorized = True
    stochastic = False

    def __init__(
        self,
        module: Any,
        inputs: Any = None,
        *,
        chunk: int | None = None,
        path: Path = "auto",
        precision: Precision | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module: must be a torch.nn.Module, got {type(module).__name__}.")
        self.chunk, path = checked_chunk(chunk), one_of("path", path, _PATHS)
        self.module = module
        self.layout: Mapping[str, Entry] = layout_of(module)
        self.n_parameters = sum(math.prod(entry.shape) for entry in self.layout.values())
        self._kind = common_kind(module)
        self.precision = checked_precision(precision, *self._kind)
        check_mode(module)
        self._stack = Stack.of(module, self.layout) if path in ("auto", "stacked") else None
        if path == "stacked" and self._stack is None:
            raise ValueError(
                'path: must be "auto", "vmap" or "loop" for this module, got "stacked" for a '
                "module that is not a stack of Linear, Conv2d, pooling, flattening and elementwise "
                "layers."
            )
        self._auto = path == "auto"
        self.path = self._best_path() if self._auto else path
        self._sizes: dict[tuple[int, ...], tuple[int, int]] = {}
        self._chunks: dict[tuple[int, ...], int] = {}
        self.inputs = None if inputs is None else self._as_inputs(inputs)
        self.takes_inputs = inputs is None
        if inputs is not None:
            self._try_inputs()

    def __repr__(self) -> str:
        return f"TorchModel({type(self.module).__name__}, p={self.n_parameters})"

    def __call__(self, u: Array, /, *, inputs: Any = None) -> Array:
        """Outputs ``(J, d)`` of members ``(J, p)``, or ``(d,)`` of one, ``(p,)``.

        Parameters
        ----------
        u : (J, p) or (p,)
            NumPy, torch or another kind of array; the outputs are of its kind, dtype and device.
            They are computed in the dtype and on the device of the module.
        inputs : array, optional
            A batch for this call, such as a mini-batch, or test data.
        """
        check_members(u, self.n_parameters)
        if inputs is None and self.inputs is None:
            raise ValueError(
                "inputs: must be given, got None. Pass a batch here, or one for all calls to "
                "TorchModel(module, inputs)."
            )
        x = self.inputs if inputs is None else self._as_inputs(inputs)
        check_mode(self.module)
        with evaluating(self.module), products(self.precision, self._kind[1]):
            g = self._evaluate(u if u.ndim == 2 else u[None, :], x)
        g = g if u.ndim == 2 else g[0]
        return g.to(dtype=u.dtype, device=u.device) if torch.is_tensor(u) else like(g, u)

    def flat(self) -> np.ndarray:
        """Current parameters of the module, ``(p,)``.

        Examples
        --------
        >>> import torch
        >>> from ekitools.adapters.torch import TorchModel
        >>> net = torch.nn.Linear(2, 1)
        >>> model = TorchModel(net)
        >>> model.load([1.0, 2.0, 3.0])
        >>> model.flat()
        array([1., 2., 3.], dtype=float32)
        """
        parameters = dict(self.module.named_parameters())
        flat = torch.cat([parameters[name].detach().reshape(-1) for name in self.layout])
        return np.asarray(flat.cpu().numpy())

    def load(self, u: Any) -> None:
        """Write a flat vector u ``(p,)``, such as the mean of an ensemble, into the module."""
        u = u if torch.is_tensor(u) else torch.as_tensor(as_real("u", u).copy())
        check_vector(u, self.n_parameters)
        parameters = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, entry in self.layout.items():
                parameters[name].copy_(u[entry.where].reshape(entry.shape))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries of u: name of the parameter, and index.

        Examples
        --------
        >>> import torch
        >>> from ekitools.adapters.torch import TorchModel
        >>> TorchModel(torch.nn.Linear(2, 1)).names
        ('weight[0,0]', 'weight[0,1]', 'bias[0]')
        """
        return tuple(
            f"{name}[{','.join(map(str, index))}]" if index else name
            for name, entry in self.layout.items()
            for index in product(*map(range, entry.shape))
        )

    def glorot_variances(
        self, *, bias: float | None = None, other: float | None = None
    ) -> np.ndarray:
        """Variances 2 / (fan_in + fan_out) of the Glorot normal prior, ``(p,)``.

        Fans are defined as in `torch.nn.init.xavier_normal_`, including receptive fields of
        convolutions. Every gate of a recurrent layer counts as a separate layer.

        Parameters
        ----------
        bias : float, optional
            Variance of the biases. The default is the variance of their weights.
        other : float, optional
            Variance of parameters without fans, such as the scales of normalisation layers. Their
            prior mean must not be zero: use ``flat()``.

        Raises
        ------
        TypeError, ValueError
            If there are parameters without fans and ``other`` is not given, or a variance is not a
            positive number.

        References
        ----------
        .. [1] X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward
           neural networks, AISTATS 2010, equation (16).

        Examples
        --------
        >>> import torch
        >>> from ekitools.adapters.torch import TorchModel
        >>> TorchModel(torch.nn.Linear(3, 1)).glorot_variances()
        array([0.5, 0.5, 0.5, 0.5])
        """
        return glorot_variances(self.module, self.layout, bias=bias, other=other)

    def _best_path(self) -> str:
        if self._stack is not None:
            return "stacked"
        recurrent = [m for m in self.module.modules() if isinstance(m, nn.RNNBase)]
        return "vmap" if all(map(is_explicit, recurrent)) else "loop"

    @property
    def shape(self) -> tuple[int, int] | None:
        """(d, p), which is compared with the problem; None without a batch."""
        return None if self.inputs is None else (self._width(self.inputs), self.n_parameters)

    def _try_inputs(self) -> None:
        """Evaluate the module's own parameters, to find errors before any run."""
        x: Any = self.inputs
        version = x._version  # torch counts operations in place
        try:
            g = self(self.flat())
        except (ValueError, TypeError) as error:
            if str(error).startswith(("module:", "path:")):
                raise
            raise self._unfit(error) from error
        except (RuntimeError, IndexError) as error:
            raise self._unfit(error) from error
        if x._version != version:
            raise ValueError(
                "module: must leave its inputs as they are, got a module that changes them in "
                "place. Copy the inputs in the module."
            )
        if not np.isfinite(g).all() and not torch.isfinite(x).all():
            raise ValueError("inputs: must be finite for this module, got NaN or inf. Impute them.")

    def _unfit(self, error: Exception) -> ValueError:
        x: Any = self.inputs
        return ValueError(
            f"inputs: must be a batch that the module accepts, got shape {tuple(x.shape)} and "
            f"{x.dtype} ({error}). Check that module(inputs) runs."
        )

    def _as_inputs(self, inputs: Any) -> Any:
        dtype, device = self._kind
        if not torch.is_tensor(inputs):
            try:
                inputs = torch.as_tensor(as_array("inputs", inputs).copy())
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"inputs: must be an array of numbers, got {type(inputs).__name__} ({error})."
                ) from error
            inputs = inputs.to(device)
        elif inputs.device != device:
            raise ValueError(
                f"inputs: must be on the module's device, {device}, got a tensor on "
                f"{inputs.device}. Use inputs.to({str(device)!r}), or move the module."
            )
        inputs = inputs.detach()
        return inputs.to(dtype) if inputs.is_floating_point() else inputs

    def _evaluate(self, u: Array, x: Any) -> Any:
        """``(J, d)`` in the dtype and on the device of the module."""
        dtype, device = self._kind
        out = torch.empty((u.shape[0], self._width(x)), dtype=dtype, device=device)
        first, working = None, working_dtype(self.precision, dtype)
        if self.path == "stacked" and self._stack is not None:
            first = self._stack.prepare(x)
            first = None if first is None else first.to(working)
        start, buffers = 0, dict[Any, Any]()
        while start < u.shape[0]:
            chunk = self._members_at_once(x)
            part, target = u[start : start + chunk], out[start : start + chunk]
            try:
                if first is not None and self._stack is not None:
                    self._stack.evaluate(self._rows(part, working), first, target, buffers)
                else:
                    target.copy_(self._general(self._rows(part, dtype), x))
            except torch.cuda.OutOfMemoryError:
                if self.chunk or len(target) == 1:
                    raise
                buffers.clear()
                give_up_cache()
                self._chunks[tuple(x.shape)] = (len(target) + 1) // 2
                continue
            start += len(target)
        return out

    def _rows(self, part: Array, dtype: Any) -> Any:
        """Rows of members in a dtype, on the device of the module."""
        if torch.is_tensor(part):
            return part.detach().to(self._kind[1], dtype)
        rows = np.ascontiguousarray(host(part))
        if not rows.flags.writeable:  # torch would share read-only memory, and warn
            rows = rows.copy()
        return torch.from_numpy(rows).to(self._kind[1], dtype)

    def _general(self, rows: Any, x: Any) -> Any:
        def one(row: Any) -> Any:
            values = {
                name: row[entry.where].reshape(entry.shape) for name, entry in self.layout.items()
            }
            return functional_call(self.module, values, (x,)).reshape(-1)

        if self.path != "loop":
            try:
                with explicit_recurrence(self.module), converted(self.precision, self._kind[1]):
                    return torch.vmap(one)(rows)
            except torch.cuda.OutOfMemoryError:  # the chunk is halved
                raise
            except RuntimeError as error:
                if "random" in str(error):
                    raise ValueError(
                        "module: must give equal outputs for equal parameters, got a module that "
                        f"draws random numbers ({error}). Disable them in eval mode."
                    ) from error
                if not self._auto:
                    raise ValueError(
                        f'path: must be "loop" for this module, got "{self.path}" ({error}).'
                    ) from error
                self.path = "loop"
        with converted(self.precision, self._kind[1]):
            return torch.stack([one(row) for row in rows])

    def _members_at_once(self, x: Any) -> int:
        shape = tuple(x.shape)
        if self.chunk is None and shape not in self._chunks:
            numbers = self._run_sizes(x)[0] + self.n_parameters
            dtype, device = self._kind
            working = working_dtype(self.precision, dtype)
            self._chunks[shape] = first_chunk(numbers, working, device)
        return self.chunk or self._chunks[shape]

    def _width(self, x: Any) -> int:
        return self._run_sizes(x)[1]

    def _run_sizes(self, x: Any) -> tuple[int, int]:
        """Total size of the outputs of all layers, and size of the module's output."""
        shape = tuple(x.shape)
        if shape not in self._sizes:
            self._sizes[shape] = sizes_of_a_run(self.module, x)
        return self._sizes[shape]
