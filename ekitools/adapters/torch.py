"""Any torch module as a forward model of its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

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

_PATHS = ("auto", "stacked", "vmap", "loop")


class TorchModel:
    r"""G(u) = the outputs of a torch module with parameters u on a batch of inputs.

    A member is the flat vector of the module's parameters, in the order of
    ``module.named_parameters()``, as `torch.nn.utils.parameters_to_vector` lays it out; its
    output is what the module returns on the batch, flattened. Parameters with
    ``requires_grad=False`` are constants, not part of u; a parameter that several layers share
    is in u once. Nothing is differentiated.

    Parameters
    ----------
    module : torch.nn.Module
        Any module that takes one tensor and returns one: dense, convolutional, recurrent. It is
        evaluated in eval mode, and gets its modes back afterwards.
    inputs : array, optional
        The batch. Arrays are copied to the module's device; a tensor must be on this device
        already. Floats are converted to the module's dtype, and integers keep their dtype. Without
        a batch here, every call needs one.
    chunk : int, optional
        How many members are evaluated at once: memory grows with it. By default as many as keep
        the activations within 8 MiB on a CPU (they stay in its cache), within half of the free
        memory of a CUDA device, and within 1 GiB elsewhere. If a CUDA device runs out of memory,
        the chunk is halved and evaluated again.
    path : {"auto", "stacked", "vmap", "loop"}, default "auto"
        How: ``"stacked"`` for stacks of `Linear`, `Conv2d`, pooling, flattening and elementwise
        layers, where the first layer of all members of a chunk is one matrix product (or one
        convolution); ``"vmap"`` for other modules, those with recurrent layers in one direction
        among them; ``"loop"``, member by member, for what `torch.vmap` cannot do, such as
        recurrent layers in both directions, with projections or given an initial state.
    precision : {"float32", "tf32", "bfloat16", "float16"}, optional
        Numbers in which the matrix products and convolutions of a float32 module are computed.
        The outputs are float32 again. By default these are the module's own numbers, with torch's
        settings for TF32 (which allow it for convolutions on CUDA devices). ``"float32"`` forbids
        TF32. ``"tf32"``, on CUDA devices only, rounds the factors of a product to 11 significant
        bits. ``"bfloat16"`` and ``"float16"`` also store activations and the weights of a chunk
        with 8 and 11 significant bits; in float16, values beyond 65504 become infinite and their
        members fail.

    Attributes
    ----------
    module : torch.nn.Module
        As given.
    inputs : Tensor or None
        The batch.
    chunk : int or None
        As given.
    path : str
        The path in use; ``"vmap"`` becomes ``"loop"`` at the first call that needs it.
    precision : str or None
        As given.
    n_parameters : int
        p.
    shape : (int, int) or None
        (d, p), where the batch is given here.
    layout : mapping of str to Entry
        Name of every parameter to its slice of u and its shape.
    takes_inputs : bool
        Whether the batch is to be given at every call.
    vectorized, stochastic : bool
        True and False: it takes ensembles (J, p), and the same u gives the same output.

    Raises
    ------
    TypeError, ValueError
        If the module has nothing to learn, has parameters of several dtypes or on several
        devices, or has dropout or batch normalisation in training mode; if the module does not
        fit the path, or the batch does not fit the module, which is tried once. If the module or
        its device does not have the precision.

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
        path: str = "auto",
        precision: str | None = None,
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
                'path: must be "auto", "vmap" or "loop" for this module, got "stacked", and it is '
                "no plain stack of Linear, Conv2d, pooling, flattening and elementwise layers."
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
        """The module's parameters as they are now, ``(p,)``.

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
        """A name for every entry of u: the parameter's, and its index.

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

        Fans are those of `torch.nn.init.xavier_normal_`, receptive fields of convolutions
        included; every gate of a recurrent layer is a layer of its own.

        Parameters
        ----------
        bias : float, optional
            Variance of the biases; by default that of the weights they belong to.
        other : float, optional
            Variance of parameters that belong to no weights, such as the scales of
            normalisation layers. A prior mean of zero is wrong for those: take ``flat()``.

        Raises
        ------
        TypeError, ValueError
            If there are such parameters and ``other`` is not given, or a variance is not a
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
        """(d, p), which a problem is checked against; None where every call is given a batch."""
        return None if self.inputs is None else (self._width(self.inputs), self.n_parameters)

    def _try_inputs(self) -> None:
        """Evaluate the module's own parameters: what does not go together is said at once."""
        x: Any = self.inputs
        version = x._version  # torch counts what is done to a tensor in place
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
                "module: must leave its inputs as they are, got one that changes them in place. "
                "Let it work on a copy."
            )
        if not np.isfinite(g).all() and not torch.isfinite(x).all():
            raise ValueError("inputs: must be finite for this module, got NaN or infinite entries.")

    def _unfit(self, error: Exception) -> ValueError:
        x: Any = self.inputs
        return ValueError(
            f"inputs: must be a batch that the module takes, got shape {tuple(x.shape)} and "
            f"{x.dtype} ({error})."
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
        """Some members in a dtype and on the device of the module."""
        if torch.is_tensor(part):
            return part.detach().to(self._kind[1], dtype)
        rows = np.ascontiguousarray(host(part))
        if not rows.flags.writeable:  # torch would share the memory, and warn
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
            except RuntimeError as error:
                if "random" in str(error):
                    raise ValueError(
                        "module: must give the same output for the same parameters, got one that "
                        f"draws random numbers ({error}). Switch them off in eval mode."
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
        """Numbers that all layers return together, and those of the output alone."""
        shape = tuple(x.shape)
        if shape not in self._sizes:
            self._sizes[shape] = sizes_of_a_run(self.module, x)
        return self._sizes[shape]
