"""`UMBridgeModel` and `serve` against umbridge's own server and client, on this machine."""

import concurrent.futures as cf
import http.server
import json
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools import typing as contracts

umbridge = pytest.importorskip("umbridge", reason="umbridge is not installed")
from ekitools.adapters.umbridge import ServedModel, UMBridgeModel, serve  # noqa: E402

PORT = """
import sys
port = int(sys.argv[1])
"""

LOOPBACK = """
import functools
from aiohttp import web
web.run_app = functools.partial(web.run_app, host="127.0.0.1")
"""

THEIRS = (
    LOOPBACK
    + """
import umbridge

class Blocks(umbridge.Model):
    def get_input_sizes(self, config={}):
        return [2, 1]
    def get_output_sizes(self, config={}):
        if config.get("outputs") == "many":
            raise KeyError("outputs")
        return [1, 3] if config.get("fine") else [1, 2]
    def supports_evaluate(self):
        return True
    def __call__(self, parameters, config={}):
        (a, b), (c,) = parameters
        if a > 5:
            raise ValueError("too large")
        second = [b * c, c - a, a] if config.get("fine") else [b * c, c - a]
        return [[a + b + c + config.get("shift", 0.0)], second]

class Mute(Blocks):
    def supports_evaluate(self):
        return False

class Empty(Blocks):
    def get_input_sizes(self, config={}):
        return []

umbridge.serve_models([Blocks("blocks"), Mute("mute"), Empty("empty")], port)
"""
)

OURS = """
import numpy as np
import ekitools as ek
from ekitools.adapters.umbridge import serve

def fn(u):
    if u[0] > 50:
        raise {60: SystemExit, 70: KeyboardInterrupt}[int(u[0])]("enough")
    if u[0] > 5:
        raise ValueError("u[0] is too large")
    return np.array([u[0] * u[1], u[0] - u[1], np.exp(u[1])])

serve(ek.FunctionModel(fn), "forward", port, shape=(3, 2))
"""


def plain(u):
    a, b, c = u
    return np.array([a + b + c, b * c, c - a])


@pytest.fixture(scope="module")
def start():
    """Start a server; its address."""
    servers = []

    def start(code):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-c", textwrap.dedent(PORT + code), str(port)]
        servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        url = f"http://127.0.0.1:{port}"
        limit = time.perf_counter() + 120
        while time.perf_counter() < limit and servers[-1].poll() is None:
            try:
                with urllib.request.urlopen(f"{url}/Info", timeout=5):
                    return url
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    yield start
    for server in servers:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def theirs(start):
    return start(THEIRS)


@pytest.fixture(scope="module")
def ours(start):
    return start(OURS)


def test_it_evaluates_what_the_server_does(theirs):
    model = UMBridgeModel(theirs, "blocks")
    assert isinstance(model, contracts.ForwardModel)
    assert model.shape == (3, 3)
    u = np.array([0.1, 1 / 3, -2.0])
    np.testing.assert_array_equal(model(u), plain(u))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(u), plain(u))
    fine = UMBridgeModel(theirs + "/", "blocks", {"fine": True, "shift": 1.0})
    total, *rest = plain(u)
    np.testing.assert_array_equal(fine(u), [total + 1.0, *rest, 0.1])


def test_a_run_is_that_of_the_function(theirs):
    prior, method = ek.GaussianPrior(np.ones(3), 0.1), ek.EKI(ek.FixedStep(0.5))
    data = plain(np.array([1.2, 0.8, 1.1]))
    problem = ek.InverseProblem(UMBridgeModel(theirs, "blocks"), prior, 0.01, data)
    here = ek.InverseProblem(ek.FunctionModel(plain), prior, 0.01, data)
    with cf.ThreadPoolExecutor(4) as executor:
        result = ek.run(problem, method, n_members=10, rng=0, executor=executor)
    plain_result = ek.run(here, method, n_members=10, rng=0)
    assert same(result.assign_attrs(problem=""), plain_result.assign_attrs(problem=""))


def test_a_member_that_the_server_fails_on_is_named(theirs, ours):
    ensemble = np.array([[1.0, 1.0], [6.0, 1.0], [0.5, 0.5], [0.2, 0.4]])
    problem = ek.InverseProblem(
        UMBridgeModel(ours, "forward"), ek.GaussianPrior([1.0, 1.0], 1.0), 0.1, np.ones(3)
    )
    result = ek.run(problem, ek.EKI(), ensemble=ensemble, n_steps=1, rng=0)
    failure = json.loads(result.attrs["failures"])[0]
    assert (failure["iteration"], failure["member"]) == (0, 1)
    assert "Model returned error of type ValueError: u[0] is too large" in failure["reason"]
    with pytest.raises(RuntimeError, match="blocks at .* not JSON.*server's log"):
        UMBridgeModel(theirs, "blocks")(np.array([6.0, 0.0, 0.0]))
    with pytest.raises(RuntimeError, match="not JSON.*cannot hold NaN"):
        UMBridgeModel(theirs, "blocks")(np.array([np.nan, 0.0, 0.0]))


@pytest.mark.parametrize(("u", "name"), [(60.0, "SystemExit"), (70.0, "KeyboardInterrupt")])
def test_no_request_ends_our_server(ours, u, name):
    model = UMBridgeModel(ours, "forward")
    with pytest.raises(RuntimeError, match=f"error of type {name}: enough"):
        model(np.array([u, 1.0]))
    np.testing.assert_array_equal(model(np.array([2.0, 3.0]))[:2], [6.0, -1.0])


def test_their_client_sees_our_model(ours):
    client = umbridge.HTTPModel(ours, "forward")
    assert client.get_input_sizes() == [2]
    assert client.get_output_sizes() == [3]
    assert client([[2.0, 3.0]]) == [[6.0, -1.0, float(np.exp(3.0))]]


def test_vectorized_models_are_served_too():
    A = np.array([[1.0, 2.0], [3.0, 4.0]])
    together = ek.FunctionModel(lambda U: U @ A.T, vectorized=True)
    assert ServedModel(together, "A", (2, 2))([[1.0, 1.0]]) == [[3.0, 7.0]]


def test_sizes_are_checked_before_the_first_run(theirs):
    model = UMBridgeModel(theirs, "blocks")
    for p, d in ((2, 3), (3, 4)):
        with pytest.raises(ValueError, match=r"model: must have the shape \(d, p\)"):
            ek.InverseProblem(model, ek.GaussianPrior(np.zeros(p), 1.0), 1.0, np.ones(d))
    with pytest.raises(ValueError, match="p = 3 entries"):
        model(np.zeros(2))


def test_mistakes_are_errors_at_once(theirs):
    with pytest.raises(
        ValueError, match="name: must be one of blocks, mute, empty at .*, got 'bloks'"
    ):
        UMBridgeModel(theirs, "bloks")
    with pytest.raises(ValueError, match="supports evaluation, got 'mute'"):
        UMBridgeModel(theirs, "mute")
    with pytest.raises(
        ValueError, match=r"parameters and outputs, got 'empty' with blocks of \[\]"
    ):
        UMBridgeModel(theirs, "empty")
    with pytest.raises(ValueError, match="config: must be a configuration of the model 'blocks'"):
        UMBridgeModel(theirs, "blocks", {"fine": True, "outputs": "many"})
    for config in ("fine", [1]):
        with pytest.raises(TypeError, match="config: must be a mapping, got"):
            UMBridgeModel(theirs, "blocks", config)
    for value in (np.int64(1), np.zeros(2), float("nan")):
        with pytest.raises(TypeError, match="config: must hold only values that JSON"):
            UMBridgeModel(theirs, "blocks", {"fine": value})
    with pytest.raises(TypeError, match="config: must have strings as keys, got {1: 2}"):
        UMBridgeModel(theirs, "blocks", {1: 2})
    with pytest.raises(ValueError, match="url: must be a string such as .* got 4242"):
        UMBridgeModel(4242, "blocks")
    bare = theirs.removeprefix("http://")
    with pytest.raises(ValueError, match=rf"url: must begin with http.* Write '{theirs}'"):
        UMBridgeModel(bare, "blocks")
    with pytest.raises(TypeError, match="model: must be a forward model, got function"):
        serve(plain, "x")
    with pytest.raises(ValueError, match="model: must be a function of u alone"):
        serve(ek.FunctionModel(plain, stochastic=True), "x", shape=(3, 3))
    with pytest.raises(ValueError, match=r"shape: must be the model's shape \(1, 2\)"):
        serve(ek.LinearModel([[1.0, 2.0]]), "x", shape=(2, 1))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"name": ""}, ValueError, "name: must be a string such as .forward., got ''"),
        ({"name": 3}, ValueError, "name: must be a string such as .forward., got 3"),
        ({"shape": 3}, TypeError, r"shape: must be two integers \(d, p\), got 3"),
        ({"shape": (3,)}, ValueError, r"shape: must be two integers \(d, p\), got \(3,\)"),
        ({"shape": (3, 0)}, ValueError, "shape: must be at least 1, got 0"),
        ({"shape": (3, 1.5)}, TypeError, "shape: must be an integer, got 1.5"),
        ({"shape": (3, True)}, TypeError, "shape: must be an integer, got True"),
        (
            {"host": "no.such.host.invalid"},
            ValueError,
            "port: must be a free port at .* 'no.such.host.",
        ),
        ({"shape": None}, ValueError, r"shape: must be given as \(d, p\)"),
        ({"port": 0}, ValueError, "port: must be from 1 to 65535, got 0"),
        ({"port": "4242"}, TypeError, "port: must be an integer, got '4242'"),
        ({"workers": 0}, ValueError, "workers: must be from 1 to 1000000, got 0"),
        ({"host": None}, ValueError, "host: must be a string such as .127.0.0.1., got None"),
    ],
)
def test_a_server_is_not_started_with_mistakes(monkeypatch, change, error, message):
    monkeypatch.setattr(umbridge, "serve_models", lambda *args, **kw: pytest.fail("it started"))
    options = {"model": ek.FunctionModel(plain), "name": "x", "shape": (3, 3), **change}
    with pytest.raises(error, match=message):
        serve(**options)


def test_a_port_in_use_is_an_error_before_anything_listens(theirs, monkeypatch):
    monkeypatch.setattr(umbridge, "serve_models", lambda *args, **kw: pytest.fail("it started"))
    port = int(theirs.rsplit(":", 1)[1])
    with pytest.raises(
        ValueError, match=f"port: must be a free port at .* got {port} at '127.0.0.1'"
    ):
        serve(ek.FunctionModel(plain), "x", port, shape=(3, 3))


@pytest.mark.parametrize(("options", "expected"), [({}, "127.0.0.1"), ({"host": "::1"}, "::1")])
def test_a_server_listens_on_this_machine_alone_unless_told_otherwise(
    monkeypatch, options, expected
):
    from aiohttp import web

    seen = {}
    monkeypatch.setattr(web, "run_app", lambda app, **kw: seen.update(kw, app=app))
    serve(ek.FunctionModel(plain), "x", 4243, shape=(3, 3), **options)
    assert isinstance(seen.pop("app"), web.Application)
    assert seen == {"host": expected, "port": 4243}
    assert sys.modules[umbridge.serve_models.__module__].web is web  # as it was


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system does not list sockets")
def test_our_server_is_bound_to_loopback(ours):
    port = int(ours.rsplit(":", 1)[1])
    hexadecimal = f"{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{hexadecimal}")}
    assert local == {f"0100007F:{hexadecimal}"}


def test_something_else_at_the_address_is_no_server():
    class Other(http.server.BaseHTTPRequestHandler):
        models = b'{"protocolVersion": 1.0, "models": %s}'
        answers: ClassVar = [b"<html>", b"[1]", b"{}", models % b"3", models % b'"forward"']

        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.answers.pop())

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        while Other.answers:
            with pytest.raises(
                ValueError, match="url: must be the address of a running UM-Bridge server"
            ):
                UMBridgeModel(f"http://127.0.0.1:{other.server_port}", "forward")
        other.shutdown()
