"""Posterior predictive draws of the data, with and without noise."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ekitools.batches import AtInputs
from ekitools.core.arrays import as_rng, checked_inputs
from ekitools.core.errors import RunError
from ekitools.core.labels import checked_labels
from ekitools.core.model_info import info_of
from ekitools.core.streams import Streams
from ekitools.losses.gaussian import as_noise
from ekitools.models.evaluate import Failure, check_executor, check_timeout, evaluate
from ekitools.models.tasks import first_outputs
from ekitools.models.workers import Workers
from ekitools.observed.blocks import as_labelled
from ekitools.observed.layout import Layout, layout_of, parts_of
from ekitools.observed.outputs import Packed
from ekitools.problem import as_model
from ekitools.results.posterior import Draws, draws_of, in_order_of
from ekitools.results.reading import has_noise
from ekitools.typing import LabelledModel, ModelInfo, Rng

__all__ = ["predict"]

_TRIES = 10
"""Most draws at which the model is run to count its outputs."""

_INDEPENDENT = "independent, with the standard deviations of the result"


def predict(
    result: xr.Dataset | Sequence[xr.Dataset],
    model: Any = None,
    noise: Any = True,
    *,
    inputs: Any = None,
    data_names: Sequence[Any] | None = None,
    iteration: int = -1,
    rng: Rng = 0,
    executor: Any = None,
    timeout: float | None = None,
) -> xr.DataArray | xr.Dataset:
    """Posterior predictive draws of the data: G(u) + η with u from the posterior.

    Without ``model`` the draws predict the observed data from the outputs that the result holds,
    and no model runs. With ``model``, the model is run once for each draw. Equal draws share one
    run of a deterministic model. The model can differ from the calibrated one, for example by
    later times, but must have the same parameters.

    Parameters
    ----------
    result : xarray.Dataset, or a sequence of them
        Result of `run` or `integrate`. The draws of several results of one problem are joined.
    model : ForwardModel or callable, optional
        G, in any form that `InverseProblem` takes. A model with named parameters, such as an
        `XarrayModel`, gets the parameters by name. Any other model gets them in the order of the
        result.
    noise : bool, noise model or covariance, default True
        Whether to add η. True draws **independent** noise with the standard deviations of the
        result (``noise_sd``). The noise of every datum then has the right size, but the noise of
        different data is not correlated. For correlated noise pass ``problem.noise``, or the
        `GaussianNoise` of the new data.
    inputs : (m, ...) array, optional
        Inputs to predict at, for a model that takes inputs.
    data_names : sequence, optional
        Labels of the outputs of ``model``. By default the labels that the model declares, or
        ``y0, y1, ...``.
    iteration : int, default -1
        A stored iteration; −1 is the last stored iteration.
    rng : None, int or numpy.random.Generator, default 0
        Source of randomness for the noise, for stochastic models, and for the systematic
        resampling of results with weights.
    executor : concurrent.futures.Executor, optional
        Executor that runs the model in parallel, such as a process pool. By default the model runs
        in this process.
    timeout : float, optional
        Time limit of one model run in seconds. A longer run counts as failed.

    Returns
    -------
    xarray.DataArray or Dataset
        ``prediction(draw, data)``. For an `XarrayModel`, the arrays of the model, with ``draw``
        as first dimension. Draws whose model run fails are left out. If no run fails, draw k
        belongs to draw k of `posterior` with the same ``rng``. The attributes are those of
        `posterior`, and

        ``n_failed``
            The number of draws whose model run failed.
        ``noise``
            A description of the added noise.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, the results are of different problems, the iteration is not
        stored or has no members left, ``model`` has other parameters, ``inputs`` are missing or
        not taken, or the standard deviations of the noise at the new data are not known.
    RunError
        If the model fails at every draw.

    Warns
    -----
    UserWarning
        If ``noise=True`` and the noise of the result is correlated.

    See Also
    --------
    posterior : Draws of the parameters.
    calibration : Coverage, width and scores of predictions on held-out data.
    plot_predictive : Plot of predictive intervals and data.

    Notes
    -----
    The draws of a stochastic model contain its randomness. The noise of a problem for EKI and
    related methods must contain the same randomness, and ``noise=True`` would add it a second
    time. Pass the noise of the observations alone.

    Without ``model`` the outputs of `UKI` are those of its linear map at the draws of its
    Gaussian. Pass ``model`` if the outputs are not linear in the parameters.

    ``noise=True`` works at new data if all data of the result have the same standard deviation,
    or if the outputs have the labels of these data. A model that declares neither ``shape`` nor
    ``data_names`` is run once more, to count its outputs.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> days = np.array([1.0, 2.0, 4.0])
    >>> prior = ek.GaussianPrior([2.0, 0.5], 0.1)
    >>> problem = ek.InverseProblem(
    ...     lambda u: u[0] * np.exp(-u[1] * days), prior, 0.01, [1.2, 0.8, 0.3])
    >>> result = ek.run(problem, ek.EKI(), n_members=500, rng=0)
    >>> ek.predict(result).dims
    ('draw', 'data')
    >>> later = np.array([8.0, 16.0])
    >>> predicted = ek.predict(result, lambda u: u[0] * np.exp(-u[1] * later), data_names=later)
    >>> predicted.sel(data=16.0).quantile([0.05, 0.95], "draw").values.round(1)
    array([-0.1,  0.2])
    """
    rng = as_rng(rng)
    check_executor(executor)
    check_timeout(timeout)
    drawn = draws_of(result, iteration, rng)
    added = _Noise(noise, drawn.results[0])
    if model is None:
        for name, given in (("inputs", inputs), ("data_names", data_names)):
            if given is not None:
                raise ValueError(f"{name}: must be None without a model, got some. Pass model=.")
        g = _stored(drawn)
        scale = added.at(g.sizes["data"], g["data"].values.tolist(), same=True)
    else:
        model = as_model(model)
        info = _checked(model, inputs, drawn)
        u = np.ascontiguousarray(in_order_of(model, drawn.u).values)
        seen = model if inputs is None else AtInputs(model, checked_inputs(inputs).copy())
        streams, layout = Streams(rng), None
        seeds = [streams.member(0, j) for j in range(len(u))] if info.stochastic else None
        where = np.arange(len(u))
        if seeds is None:
            u, where = _different(u)
        with Workers(executor) as workers:
            d = _declared(info, inputs, data_names)
            own = info.data_names if inputs is None and data_names is None else data_names
            if d is None:
                d, layout = _formed(seen, u, seeds, workers, timeout)
                if layout is not None:
                    seen, own = Packed(seen, layout), layout.names
            names = checked_labels("data_names", own, d, stem="y")
            scale = added.at(d, None if own is None else list(names), same=inputs is None)
            outputs = evaluate(seen, u, d, executor=workers, timeout=timeout, seeds=seeds)
        if len(outputs.failures) == len(u):
            raise _all_failed(len(u), outputs.failures[0])
        units = info.data_units if inputs is None else None
        g = _labelled(outputs.g[where], names, units if layout is None else layout.units)
        if layout is not None:
            g = g.assign_coords({k: ("data", each) for k, each in layout.coordinates().items()})
    kept = np.isfinite(g.values).all(axis=1)
    g = g.isel(draw=kept) if not kept.all() else g
    g = g.assign_coords(draw=np.arange(g.sizes["draw"]))
    predicted: Any = g.copy(data=g.values + added.draw(scale, g.shape, rng).astype(g.dtype))
    if isinstance(model, LabelledModel):
        predicted = model.unflatten(predicted)
    n_failed = int((~kept).sum())
    predicted.attrs |= {**drawn.attributes(), "n_draws": g.sizes["draw"], "n_failed": n_failed}
    predicted.attrs["noise"] = added.words
    return predicted


class _Noise:
    """The noise to add: none, the noise of a result, or a given noise model."""

    def __init__(self, noise: Any, result: xr.Dataset) -> None:
        self.result = result
        self.wanted = not isinstance(noise, bool | np.bool_) or bool(noise)
        self.given = None if isinstance(noise, bool | np.bool_) else as_noise(noise)
        self.words = "none"
        if self.given is not None:
            self.words = f"of the {type(self.given).__name__} given"
        elif self.wanted:
            self.words = _INDEPENDENT
            if not has_noise(result):
                loss = result.attrs.get("loss", "not recorded")
                raise ValueError(
                    f"noise: must be False for a result of a loss ({loss}), which defines no "
                    "noise, got True. Use noise=False, or pass a noise model."
                )
            if result.attrs.get("noise") == "correlated":
                warnings.warn(
                    "noise: the noise of the result is correlated, but noise=True draws "
                    "independent noise. Pass noise=problem.noise to draw correlated noise.",
                    stacklevel=3,
                )
            if not np.isfinite(result.noise_sd.values).all():
                raise ValueError(
                    "noise: must be a noise model for a result without finite standard "
                    "deviations of the noise, got True. Use noise=problem.noise, or noise=False."
                )

    def at(self, d: int, names: list[Any] | None, *, same: bool) -> np.ndarray:
        """Standard deviations at ``d`` outputs, 0-d or ``(d,)``; checked before any model run.

        ``names`` are the labels of the outputs, or None if the labels are not known. Outputs
        without labels count as the data of the result only if ``same`` is True.
        """
        if not self.wanted:
            return np.zeros(())
        if self.given is not None:
            if self.given.n_data not in (None, d):
                raise ValueError(
                    f"noise: must be for the {d} outputs of the model, got a covariance for "
                    f"{self.given.n_data}. Pass the noise of the new data, or use noise=False."
                )
            return np.asarray(self.given.sd)
        sd = self.result.noise_sd.values
        if np.ptp(sd) == 0:
            return np.asarray(sd[0])
        labels = self.result["data"].values.tolist()
        if names is not None and set(names) == set(labels):
            return np.asarray(sd[[labels.index(name) for name in names]])
        if names is None and same and d == len(sd):
            return np.asarray(sd)
        raise ValueError(
            f"noise: must be given for {d} outputs that are not the {len(sd)} data of the result, "
            "which have different standard deviations, got True. Use noise=ek.GaussianNoise(cov) "
            "with the covariance of the new data, or noise=False."
        )

    def draw(self, sd: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Draws of η, ``(draws, outputs)``."""
        if self.given is not None and self.given.n_data is not None:
            return np.asarray(self.given.sample(shape[0], rng=rng))
        return rng.standard_normal(shape) * sd if self.wanted else np.zeros(shape)


def _different(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of ``u``, and for each row the index of its distinct row."""
    rows = u.view(np.dtype((np.void, u.itemsize * u.shape[1])))[:, 0]  # fast for many columns
    _, first, which = np.unique(rows, return_index=True, return_inverse=True)
    return u[first], which


def _stored(drawn: Draws) -> xr.DataArray:
    """The stored outputs of the draws."""
    if not np.isfinite(drawn.g.values).all(axis=1).any():
        stored = int(drawn.results[0].iteration[drawn.indices[0]])
        raise ValueError(
            f"iteration: must be an evaluated iteration, got {stored}, whose outputs are not "
            "known. Pass model= to run the model, or run the method with evaluate_final=True."
        )
    return drawn.g.rename("prediction")


def _labelled(g: np.ndarray, names: Sequence[Any], units: Sequence[str] | None) -> xr.DataArray:
    labelled = xr.DataArray(g, {"data": list(names)}, ("draw", "data"), name="prediction")
    if units is None or not any(units):
        return labelled
    return labelled.assign_coords(data_units=("data", list(units)))


def _checked(model: Any, inputs: Any, drawn: Draws) -> ModelInfo:
    """Check that the model fits the parameters and the inputs, and return its declarations."""
    info, p = info_of(model), drawn.u.sizes["parameter"]
    declared = info.n_parameters if info.shape is None else info.shape[1]
    if declared not in (None, p):
        raise ValueError(
            f"model: must have the {p} parameters of the result, got a model of {declared}."
        )
    if info.takes_inputs and inputs is None:
        raise TypeError(f"inputs: must be given for {model!r}, which takes inputs, got None.")
    if inputs is not None and not info.takes_inputs:
        raise TypeError(
            f"inputs: must be None for {model!r}, which does not take inputs. Use "
            "ek.FunctionModel(fn, takes_inputs=True), or pass a function of the parameters alone."
        )
    return info


def _declared(info: ModelInfo, inputs: Any, data_names: Sequence[Any] | None) -> int | None:
    """The number of outputs, or None if only a model run can tell."""
    if inputs is None and info.shape is not None:
        return info.shape[0]
    names = data_names if data_names is not None or inputs is not None else info.data_names
    return None if names is None else len(names)


def _formed(
    model: Any, u: np.ndarray, seeds: Any, workers: Workers, timeout: float | None
) -> tuple[int, Layout | None]:
    """The number of outputs, and the layout of outputs with blocks or labels (else None).

    Both are taken from the first draw at which the model does not fail.
    """
    for j in range(min(len(u), _TRIES)):
        task = (u[j].copy(), None if seeds is None else seeds[j], timeout)
        (found,) = workers.run(first_outputs, model, [task])
        if isinstance(found, Failure):
            continue
        value = found.value
        if parts_of(value) is None and as_labelled(value) is None:
            shape = np.shape(value)
            return (shape[-1] if shape else 1), None
        if model.vectorized:  # an ensemble of one
            value = {name: np.asarray(part)[0] for name, part in (parts_of(value) or {}).items()}
        layout, _ = layout_of(value, remedy="")
        assert layout is not None
        return layout.n_whole, replace(layout, kept=np.ones(layout.n_whole, dtype=bool))
    raise _all_failed(min(len(u), _TRIES), found)


def _all_failed(n: int, failure: Failure) -> RunError:
    where = f" ({failure.where})" if failure.where else ""
    return RunError(
        f"model: must return outputs for at least one draw, got {n} failures in {n} runs. Reason: "
        f"{failure.reason}{where}. Check the model at one draw of ek.posterior(result)."
    )
