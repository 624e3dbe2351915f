"""Models of UM-Bridge servers, and forward models served over UM-Bridge."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import requests
import umbridge
from aiohttp import web

from ekitools.adapters._shared import check_vector
from ekitools.core.arrays import host
from ekitools.core.checks import integer
from ekitools.core.model_info import info_of
from ekitools.typing import Array

__all__ = ["ServedModel", "UMBridgeModel", "serve"]

_NO_ANSWER = (requests.RequestException, LookupError, TypeError, RuntimeWarning)
"""Exceptions of umbridge if there is no server, or a server with another protocol."""


class UMBridgeModel:
    """A forward model G(u) that a UM-Bridge server evaluates [1]_.

    The server can be written in any language. The server's input blocks, concatenated, are u. The
    output blocks, concatenated, are G(u). Use
    ``executor=concurrent.futures.ThreadPoolExecutor(n)`` to evaluate n members in parallel on a
    server that balances its load.

    Parameters
    ----------
    url : str
        Address of the server, such as ``"http://localhost:4242"``.
    name : str
        Name of the model on the server.
    config : mapping, optional
        Configuration of the model, sent with every request.

    Attributes
    ----------
    shape : tuple of int
        (d, p) as stated by the server; `InverseProblem` checks prior and data against the shape.
    input_sizes, output_sizes : list of int
        Sizes of the input blocks and of the output blocks.
    vectorized, stochastic : bool
        False.

    Raises
    ------
    TypeError, ValueError
        If no server answers, the server does not evaluate a model of this name, or it states no
        sizes for the configuration.

    See Also
    --------
    serve : Serve a forward model over UM-Bridge.
    ekitools.adapters.command.CommandModel : A program as a forward model.

    References
    ----------
    .. [1] L. Seelinger, V. Cheng-Seelinger, A. Davis, M. Parno and A. Reinarz, UM-Bridge:
       Uncertainty quantification and modeling bridge, Journal of Open Source Software 8(83),
       4748, 2023.

    Examples
    --------
    >>> from ekitools.adapters.umbridge import UMBridgeModel
    >>> UMBridgeModel("http://127.0.0.1:9", "forward")
    Traceback (most recent call last):
        ...
    ValueError: url: must be the address of a running UM-Bridge server, got http://127.0.0.1:9...
    """

    vectorized = False
    stochastic = False

    def __init__(self, url: str, name: str, config: Mapping[str, Any] | None = None) -> None:
        _check_text("url", url, "http://localhost:4242")
        _check_text("name", name, "forward")
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                f"url: must begin with http:// or https://, got {url!r}. Write 'http://{url}'."
            )
        self.url, self.name, self.config = url.rstrip("/"), name, _checked_config(config)
        try:
            names = umbridge.supported_models(self.url)
        except _NO_ANSWER as error:
            raise ValueError(
                f"url: must be the address of a running UM-Bridge server, got {url} ({error}). "
                "Start it, and check host and port."
            ) from error
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise ValueError(
                f"url: must be the address of a running UM-Bridge server, got {url}, whose list of "
                f"models is {names!r}. Check host and port."
            )
        if name not in names:
            raise ValueError(f"name: must be one of {', '.join(names)} at {url}, got {name!r}.")
        try:
            self._model = umbridge.HTTPModel(self.url, name)
            evaluates = self._model.supports_evaluate()
        except _NO_ANSWER as error:
            raise ValueError(
                f"name: must be a model whose features {url} can list, got {name!r} ({error!r}). "
                "Read the log of the server."
            ) from error
        if not evaluates:
            raise ValueError(f"name: must be a model that supports evaluation, got {name!r}.")
        try:
            self.input_sizes = [int(n) for n in self._model.get_input_sizes(self.config)]
            self.output_sizes = [int(n) for n in self._model.get_output_sizes(self.config)]
        except (requests.RequestException, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"config: must be a configuration of the model {name!r}, got {self.config}, for "
                f"which the server states no sizes ({error!r}). Pass another config=."
            ) from error
        self.shape = (sum(self.output_sizes), sum(self.input_sizes))
        if min(self.shape) < 1 or min(self.output_sizes + self.input_sizes) < 0:
            raise ValueError(
                f"name: must be a model with parameters and outputs, got {name!r} with blocks of "
                f"{self.input_sizes} and {self.output_sizes} numbers. Choose another model."
            )

    def __repr__(self) -> str:
        return f"UMBridgeModel({self.name!r}, shape={self.shape})"

    def __call__(self, u: Array, /) -> np.ndarray:
        """Outputs ``(d,)`` of one member ``(p,)``.

        Raises
        ------
        RuntimeError
            If the server does not answer, answers with an error, or returns blocks of other sizes.
        """
        check_vector(u, self.shape[1])
        blocks = np.split(host(u), np.cumsum(self.input_sizes)[:-1])
        try:
            outputs = self._model([block.tolist() for block in blocks], self.config)
        except requests.exceptions.InvalidJSONError as error:
            raise RuntimeError(
                f"{self.name} at {self.url}: the answer is not JSON ({error}). Read the server's "
                "log for an exception of the model. JSON cannot hold NaN."
            ) from error
        except Exception as error:  # umbridge raises no other kind
            raise RuntimeError(f"{self.name} at {self.url}: {error}") from error
        if [len(block) for block in outputs] != self.output_sizes:
            raise RuntimeError(
                f"{self.name} at {self.url}: must return {self.output_sizes} numbers, got "
                f"{[len(block) for block in outputs]}. Correct the model on the server."
            )
        return np.concatenate([np.asarray(block, dtype=np.float64) for block in outputs])


class ServedModel(umbridge.Model):  # type: ignore[misc]
    """A forward model wrapped for `umbridge.serve_models`.

    Parameters
    ----------
    model : ForwardModel
        A model of one member, or a vectorized model. It must be neither stochastic nor a model
        with inputs.
    name : str
        Name of the model on the server.
    shape : tuple of int, optional
        The shape (d, p); required if the model does not declare its shape.

    Raises
    ------
    TypeError, ValueError
        If the model is of another kind, or its shape is unknown or differs from ``shape``.

    See Also
    --------
    serve : Wrap and serve a model in one call.
    UMBridgeModel : The model of a server as a forward model.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.adapters.umbridge import ServedModel
    >>> served = ServedModel(ek.LinearModel([[1.0, 2.0]]), "line")
    >>> served.get_input_sizes(), served([[1.0, 1.0]])
    ([2], [[3.0]])
    """

    def __init__(self, model: Any, name: str, shape: tuple[int, int] | None = None) -> None:
        super().__init__(name)
        _check_text("name", name, "forward")
        info = info_of(model)
        if not callable(model) or info.vectorized is None:
            raise TypeError(
                f"model: must be a forward model, got {type(model).__name__}. Wrap a function in "
                "ek.FunctionModel(fn)."
            )
        if info.stochastic or info.takes_inputs:
            raise ValueError(
                f"model: must be a function of u alone, got {model!r}, which is stochastic or "
                "takes inputs. UM-Bridge sends neither. Fix both in an ek.FunctionModel."
            )
        if shape is None and info.shape is None:
            raise ValueError(f"shape: must be given as (d, p), because {model!r} declares none.")
        sizes = _checked_shape(info.shape if shape is None else shape)
        if info.shape not in (None, sizes):
            raise ValueError(f"shape: must be the model's shape {info.shape}, got {shape}.")
        self.model = model
        self.n_data, self.n_parameters = sizes

    def get_input_sizes(self, config: Any = None) -> list[int]:  # noqa: ARG002 - their signature
        """One block of p numbers for every ``config``."""
        return [self.n_parameters]

    def get_output_sizes(self, config: Any = None) -> list[int]:  # noqa: ARG002
        """One block of d numbers for every ``config``."""
        return [self.n_data]

    def supports_evaluate(self) -> bool:
        """True."""
        return True

    def __call__(
        self,
        parameters: list[list[float]],
        config: Any = None,  # noqa: ARG002
    ) -> list[list[float]]:
        """G of one member; the client receives the type and the text of an exception.

        No exception of the model ends the server, SystemExit included.
        """
        try:
            return [self._evaluate(np.asarray(parameters[0], dtype=np.float64))]
        except BaseException as error:
            on_main = threading.current_thread() is threading.main_thread()
            if isinstance(error, KeyboardInterrupt) and on_main:  # Ctrl-C ends the server
                raise
            # umbridge itself defines no answer for a model that raises
            answer = {"error": {"type": type(error).__name__, "message": _text(error)}}
            raise web.HTTPInternalServerError(
                text=json.dumps(answer), content_type="application/json"
            ) from error

    def _evaluate(self, u: np.ndarray) -> list[float]:
        g = self.model(u[None, :])[0] if self.model.vectorized else self.model(u)
        g = np.asarray(host(g), dtype=np.float64).reshape(-1)
        if not np.all(np.isfinite(g)):
            raise ValueError("model: must return finite numbers, which JSON can hold.")
        return g.tolist()


def serve(
    model: Any,
    name: str,
    port: int = 4242,
    *,
    shape: tuple[int, int] | None = None,
    workers: int = 1,
    host: str = "127.0.0.1",
) -> None:
    """Serve a forward model over UM-Bridge until the process is ended.

    Parameters
    ----------
    model : ForwardModel
        A model of one member, or a vectorized model. It must be neither stochastic nor a model
        with inputs.
    name : str
        Name of the model on the server.
    port : int, default 4242
        Port of the server. Clients expect 4242.
    shape : tuple of int, optional
        The shape (d, p); required if the model does not declare its shape.
    workers : int, default 1
        Number of threads that evaluate the model. Use more than one only if the model is
        thread-safe.
    host : str, default "127.0.0.1"
        Network address of the server. With the default, only programs on this machine can connect.
        With ``"0.0.0.0"`` the server answers everyone on all network interfaces; use a firewall.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid. The server has not started then.

    See Also
    --------
    ServedModel : The wrapper, for servers with several models.
    UMBridgeModel : The model of a server as a forward model.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.adapters.umbridge import serve
    >>> serve(ek.FunctionModel(abs), "forward")
    Traceback (most recent call last):
        ...
    ValueError: shape: must be given as (d, p), because FunctionModel(abs) declares none.
    """
    served = ServedModel(model, name, shape)
    port, workers = integer("port", port, most=65535), integer("workers", workers, most=10**6)
    _check_text("host", host, "127.0.0.1")
    _check_free(host, port)
    with _listening_at(host):
        umbridge.serve_models([served], port, max_workers=workers)


def _check_free(host: str, port: int) -> None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ValueError(
            f"host, port: must be a free port at an address of this machine, got {port} at "
            f"{host!r} ({error}). Use another port or another host."
        ) from error


@contextmanager
def _listening_at(host: str) -> Iterator[None]:
    """Let `umbridge.serve_models`, which has no such argument, listen only at ``host``."""
    module = sys.modules[umbridge.serve_models.__module__]
    if getattr(module, "web", None) is not web:
        raise RuntimeError(
            "umbridge: must use aiohttp, or the server cannot listen at one host only. "
            "Install umbridge 1.2."
        )

    class Web:
        """The module `aiohttp.web`, with a fixed host."""

        run_app = staticmethod(partial(web.run_app, host=host))

        def __getattr__(self, name: str) -> Any:
            return getattr(web, name)

    vars(module)["web"] = Web()
    try:
        yield
    finally:
        vars(module)["web"] = web


def _check_text(argument: str, value: Any, example: str) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f'{argument}: must be a string such as "{example}", got {value!r}.')


def _text(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except BaseException:
        return "its text cannot be read"


def _checked_config(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise TypeError(f"config: must be a mapping, got {config!r}.")
    if not all(isinstance(key, str) for key in config):
        raise TypeError(f"config: must have strings as keys, got {config!r}. Use str().")
    try:
        json.dumps(dict(config), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"config: must hold only values that JSON supports, got {config!r} ({error}). Use "
            "float(), int(), str() and .tolist()."
        ) from error
    return dict(config)


def _checked_shape(shape: Any) -> tuple[int, int]:
    try:
        d, p = shape
    except TypeError:
        raise TypeError(f"shape: must be two integers (d, p), got {shape!r}.") from None
    except ValueError:
        raise ValueError(f"shape: must be two integers (d, p), got {shape!r}.") from None
    return integer("shape", d), integer("shape", p)
