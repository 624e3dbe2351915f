"""Models: any matrix is the same model, and what cannot be one is said."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import ekitools as ek

A = np.random.default_rng(0).normal(size=(4, 3))
A[0, 1] = A[3, 2] = 0


def double(u):
    return 2 * u


KINDS = {
    "dense": A,
    "list": A.tolist(),
    "csr": sparse.csr_array(A),
    "csc": sparse.csc_matrix(A),
    "coo": sparse.coo_array(A),
    "operator": aslinearoperator(A),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix_is_the_same_model(kind):
    model = ek.LinearModel(KINDS[kind])
    u, r = (
        np.random.default_rng(1).normal(size=(5, 3)),
        np.random.default_rng(2).normal(size=(5, 4)),
    )
    np.testing.assert_allclose(model(u), u @ A.T, rtol=1e-13)
    np.testing.assert_allclose(model(u[0]), A @ u[0], rtol=1e-13)
    np.testing.assert_allclose(model.adjoint(r), r @ A, rtol=1e-13)
    np.testing.assert_allclose(model.adjoint(r[0]), r[0] @ A, rtol=1e-13)
    assert model.shape == (4, 3)
    single = model(u.astype(np.float32))
    assert single.dtype == np.float32
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(3), 1.0), 0.1, A.sum(1))
    dense = ek.InverseProblem(ek.LinearModel(A), problem.prior, 0.1, A.sum(1))
    runs = [ek.run(p, ek.EKI(), n_members=9, rng=0).u for p in (problem, dense)]
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-9)


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_torch_members_come_back_as_torch(kind):
    torch = pytest.importorskip("torch")
    u = torch.ones((2, 3), dtype=torch.float32)
    g = ek.LinearModel(KINDS[kind])(u)
    assert isinstance(g, torch.Tensor)
    assert g.dtype == torch.float32
    np.testing.assert_allclose(g.numpy(), np.ones((2, 3)) @ A.T, rtol=1e-6)


def test_the_matrix_is_a_read_only_copy():
    matrix = A.copy()
    model = ek.LinearModel(matrix)
    matrix[:] = 0
    np.testing.assert_array_equal(model.matrix, A)
    with pytest.raises(ValueError, match="read-only"):
        model.matrix[0, 0] = 1


def test_models_say_what_they_are():
    assert repr(ek.FunctionModel(double)) == "FunctionModel(double)"
    assert (
        repr(ek.FunctionModel(double, vectorized=True)) == "FunctionModel(double, vectorized=True)"
    )
    assert "(4, 3)" in repr(ek.LinearModel(A))
    assert pickle.loads(pickle.dumps(ek.FunctionModel(double)))(1) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [[True, False, True, False], [2, 0]], ids=["mask", "indices"])
def test_rows_of_every_kind_of_matrix(kind, kept):
    some = ek.LinearModel(KINDS[kind]).rows(kept)
    u = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_allclose(some(u), u @ A[kept].T, rtol=1e-13)


def test_fingerprints_of_matrices():
    prints = [ek.LinearModel(m).fingerprint() for m in (A, A + 1, sparse.csr_array(A))]
    assert len(set(prints)) == 3
    assert ek.LinearModel(A).fingerprint() == prints[0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ek.FunctionModel(3), TypeError, "fn: must be callable, got int"),
        (
            lambda: ek.FunctionModel(double, vectorized=True, stochastic=True),
            ValueError,
            "stochastic: must be False with vectorized=True",
        ),
        (lambda: ek.LinearModel(np.ones(3)), ValueError, "A: must have 2 dimensions"),
        (lambda: ek.LinearModel([[1.0, np.nan]]), ValueError, "A: must be finite"),
        (lambda: ek.LinearModel([[1j]]), TypeError, "A: must be an array of real numbers"),
        (lambda: ek.LinearModel(sparse.csr_array([[np.inf]])), ValueError, "A: must be finite"),
        (lambda: ek.LinearModel(np.ones((0, 3))), ValueError, "A: must have rows and columns"),
        (
            lambda: ek.LinearModel(LinearOperator((2, 2), matvec=lambda x: x, dtype=complex)),
            TypeError,
            "A: must be real",
        ),
    ],
)
def test_bad_models_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
