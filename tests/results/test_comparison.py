"""Comparison: exact draws come out as exact, and a known error as that error."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.special import ndtr, ndtri
from scipy.stats import wasserstein_distance

import ekitools as ek

PER_PARAMETER = ("mean", "sd", "mean_error", "sd_ratio", "wasserstein")
EXAMPLE = ek.problems.linear(p=4, d=8, rng=3)
MEAN, COV = EXAMPLE.extra["mean"], EXAMPLE.extra["cov"]
SD = np.sqrt(np.diag(COV))
NAMES = ["u0", "u1", "u2", "u3"]


def draws(n, seed=0, mean=MEAN, cov=COV):
    return np.random.default_rng(seed).multivariate_normal(mean, cov, size=n)


def holding(u, weight=None, names=None):
    """A result whose last iteration has the members ``u``."""
    p = u.shape[1]
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: u[:, :1], vectorized=True),
        ek.GaussianPrior(np.zeros(p), 1.0),
        1.0,
        [0.0],
        parameter_names=names,
    )
    loop = ek.AskTell(problem, ek.EKI(ek.FixedStep(1.0)), n_members=len(u), rng=0)
    while not loop.done:
        loop.tell(loop.ask()[:, :1])
    result = loop.result()
    result["u"][-1] = u
    if weight is not None:
        result["weight"] = result.misfit.copy(data=np.stack([weight, weight]))
    return result


def test_exact_draws_are_as_near_as_their_number_allows():
    n = 4000
    comparison = ek.compare({"exact": holding(draws(n))}, (MEAN, COV))
    line = comparison.sel(label="exact")
    assert np.all(np.abs(line.mean_error) * np.sqrt(n) < 3.5)  # standard errors
    assert np.all(np.abs(line.sd_ratio - 1) * np.sqrt(2 * n) < 3.5)
    assert float(line.mean_error_expected) == pytest.approx(1 / np.sqrt(n))
    # E|C - C_ref|^2 of entries with variance (1 + rho^2)/n, in units in which sds are 1
    rho = COV / SD / SD[:, None]
    expected = np.sqrt(np.sum(1 + rho**2) / n / np.sum(rho**2))
    assert 0.3 * expected < float(line.cov_error) < 2 * expected
    assert comparison.attrs["reference_n_effective"] == np.inf


def test_wasserstein_of_exact_draws_is_what_the_theory_says():
    """√n E W₁ → ∫ √(2 F(1 − F)/π) dx, for the empirical process is a Brownian bridge of F."""
    n, p = 1000, 60
    sd = np.linspace(0.1, 20, p)
    u = 3 + sd * np.random.default_rng(1).standard_normal((n, p))
    comparison = ek.compare([holding(u)], (np.full(p, 3.0), np.diag(sd**2)))
    limit = quad(lambda x: np.sqrt(2 / np.pi * ndtr(x) * ndtr(-x)), -10, 10)[0]
    assert limit == pytest.approx(1.29, abs=0.005)  # as the docstring has it
    found = np.sqrt(n) * comparison.wasserstein.values.ravel()
    resolution = 5.1e-4 * np.sqrt(n)
    assert abs(found.mean() - limit) < 3 * found.std() / np.sqrt(p) + resolution


def test_the_stated_resolution_of_a_gaussian_marginal():
    """Two million stratified points are as good as the distribution itself."""
    n = 2_000_000
    fine = ndtri((np.arange(n) + 0.5) / n)
    comparison = ek.compare([holding(fine[:, None])], (np.zeros(1), np.eye(1)))
    assert comparison.wasserstein.item() == pytest.approx(5.1e-4, abs=5e-6)


def test_a_shift_is_found_as_that_shift():
    u = draws(300)
    shift = np.array([0.5, -2.0, 0.0, 3.0])
    line = ek.compare([holding(u + shift * SD)], u).isel(label=0)
    sd = u.std(axis=0, ddof=1)
    np.testing.assert_allclose(line.mean_error, shift * SD / sd, atol=1e-12)
    np.testing.assert_allclose(line.wasserstein, np.abs(shift) * SD / sd, atol=1e-12)
    np.testing.assert_allclose(line.sd_ratio, 1)
    np.testing.assert_allclose(line["mean"], u.mean(axis=0) + shift * SD)
    assert float(line.cov_error) < 1e-12
    errors = np.abs(shift * SD / sd)
    assert float(line.mean_error_max) == pytest.approx(errors.max())
    assert float(line.mean_error_rms) == pytest.approx(np.sqrt(np.mean(errors**2)))


def test_a_scale_is_found_as_that_ratio():
    u = draws(300)
    mean = u.mean(axis=0)
    line = ek.compare([holding(mean + 0.7 * (u - mean))], u).isel(label=0)
    np.testing.assert_allclose(line.sd_ratio, 0.7)
    np.testing.assert_allclose(line.mean_error, 0, atol=1e-12)
    assert float(line.sd_error_max) == pytest.approx(0.3)
    assert float(line.cov_error) == pytest.approx(1 - 0.7**2)
    away = np.abs(u - mean).mean(axis=0) / u.std(axis=0, ddof=1)
    np.testing.assert_allclose(line.wasserstein, 0.3 * away)


def test_weights_count_like_copies():
    u, copies = draws(50), np.random.default_rng(5).integers(0, 4, 50)
    weighted = holding(u, weight=copies / copies.sum())
    repeated = holding(np.repeat(u, copies, axis=0))
    comparison = ek.compare({"weighted": weighted, "repeated": repeated}, (MEAN, COV))
    a, b = comparison.isel(label=0), comparison.isel(label=1)
    for name in ("mean", "mean_error", "wasserstein", "mean_error_rms", "mean_error_max"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-10)

    # unbiased for weights that are not copies: the sums of squares agree
    def sums(line):
        return line.sd**2 * (1 - 1 / line.n_effective)

    np.testing.assert_allclose(sums(a), sums(b))
    assert float(a.n_effective) == pytest.approx(copies.sum() ** 2 / np.sum(copies**2))
    assert int(a.members) == np.count_nonzero(copies)
    by_weights, by_copies = (ek.compare([holding(draws(9))], each) for each in (weighted, repeated))
    np.testing.assert_allclose(by_weights.reference_mean, by_copies.reference_mean)
    scaled = (each.wasserstein * each.reference_sd for each in (by_weights, by_copies))
    np.testing.assert_allclose(*scaled)


def test_distances_are_in_standard_deviations():
    u, other = draws(40), draws(30, seed=1)
    line = ek.compare([holding(u)], other).isel(label=0)
    for i in range(4):
        expected = wasserstein_distance(u[:, i], other[:, i]) / other[:, i].std(ddof=1)
        assert line.wasserstein.values[i] == pytest.approx(expected)


def test_covariances_of_many_parameters_are_compared_without_forming_them():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.1, 10, 700)
    u, v = (scale * rng.standard_normal((n, 700)) for n in (30, 40))
    sd = v.std(axis=0, ddof=1)
    C, R = np.cov((u / sd).T), np.cov((v / sd).T)
    expected = np.linalg.norm(C - R) / np.linalg.norm(R)
    assert ek.compare([holding(u)], v).cov_error.item() == pytest.approx(expected)


def test_every_kind_of_reference_gives_the_same_numbers():
    results = {"a": holding(draws(40, seed=1)), "b": holding(draws(50, seed=2))}
    u = draws(300)
    moments = (u.mean(axis=0), np.cov(u.T))
    pairs = dict(zip(NAMES, zip(moments[0], u.std(axis=0, ddof=1), strict=True), strict=True))
    array = xr.DataArray(u, dims=("sample", "parameter"), coords={"parameter": NAMES})
    nans = np.vstack([u, np.full(4, np.nan)])
    of_draws = [
        ek.compare(results, reference)
        for reference in (
            *(u, u.tolist(), nans, holding(u), holding(u, np.full(300, 1 / 300))),
            *(array, array.T, array.isel(parameter=[2, 0, 3, 1])),
            xr.DataArray(u.reshape(3, 100, 4), dims=("chain", "draw", "parameter")),
        )
    ]
    for other in of_draws[1:]:
        xr.testing.assert_allclose(other, of_draws[0], rtol=1e-12, atol=1e-12)
    of_gaussian, of_pairs = ek.compare(results, moments), ek.compare(results, pairs)
    for name in of_gaussian.data_vars:
        if name != "wasserstein":
            np.testing.assert_allclose(of_gaussian[name], of_draws[0][name], rtol=1e-9)
        if name not in ("wasserstein", "cov_error"):
            np.testing.assert_allclose(of_pairs[name], of_draws[0][name])
    # the marginals of 300 draws are not Gaussian, but within a few standard errors of it
    assert np.all(np.abs(of_gaussian.wasserstein - of_draws[0].wasserstein) < 3 / np.sqrt(300))
    assert of_pairs[["wasserstein", "cov_error"]].isnull().all().to_array().all()
    said = [each.attrs["reference"] for each in (of_draws[0], of_draws[3], of_gaussian, of_pairs)]
    assert said == [
        "300 draws",
        "300 members of EKI",
        "exact Gaussian",
        "means and standard deviations",
    ]
    known = [each.attrs["reference_n_effective"] for each in (of_draws[3], of_pairs)]
    np.testing.assert_allclose(known, [300, np.nan])


def test_a_reference_of_some_parameters_restricts_the_comparison():
    u = draws(30)
    whole = ek.compare([holding(u)], (MEAN, COV))
    some = ek.compare([holding(u)], {"u2": (MEAN[2], SD[2]), "u0": (MEAN[0], SD[0])})
    assert some.parameter.values.tolist() == ["u0", "u2"]
    np.testing.assert_allclose(some.mean_error, whole.mean_error.sel(parameter=["u0", "u2"]))
    reference = holding(draws(100)).isel(parameter=[3, 1])
    assert ek.compare([holding(u)], reference).parameter.values.tolist() == ["u1", "u3"]


def test_parameters_are_matched_by_name_between_results():
    u = draws(30)
    comparison = ek.compare(
        {"a": holding(u), "b": holding(u[:, ::-1], names=NAMES[::-1])}, (MEAN, COV)
    )
    np.testing.assert_array_equal(comparison.mean_error[0], comparison.mean_error[1])
    assert comparison.wasserstein[0].equals(comparison.wasserstein[1].assign_coords(label="a"))


def test_members_that_failed_are_left_out():
    u = draws(30)
    lost = u.copy()
    lost[[3, 8]] = np.nan
    kept = np.delete(u, [3, 8], axis=0)
    a, b = (ek.compare([holding(each)], (MEAN, COV)) for each in (lost, kept))
    for name in PER_PARAMETER:
        np.testing.assert_allclose(a[name], b[name])
    assert a.members.item() == 28


@pytest.fixture(scope="module")
def results():
    methods = [ek.EKI(), ek.EKI(ek.FixedStep(0.5)), ek.TemperedSMC(), ek.GNKI()]
    found = [ek.run(EXAMPLE.problem, m, n_members=30 + i, rng=0) for i, m in enumerate(methods)]
    return [*found, ek.integrate(EXAMPLE.problem, ek.EKIFlow(), t_span=(0, 1), n_members=9, rng=0)]


def test_methods_are_named_and_their_cost_is_said(results):
    comparison = ek.compare(results, (MEAN, COV))
    assert comparison.label.values.tolist() == ["EKI", "EKI 2", "TemperedSMC", "GNKI", "EKIFlow"]
    runs = [result.attrs["model_runs"] for result in results]
    assert comparison.model_runs.values.tolist() == runs
    seconds = [result.attrs.get("seconds", np.nan) for result in results]
    np.testing.assert_array_equal(comparison.seconds, seconds)
    assert comparison.members.values[:2].tolist() == [30, 31]
    weight = results[2].weight[-1]
    assert comparison.n_effective.values[2] == pytest.approx(1 / float((weight**2).sum()))
    one = ek.compare(results[0], (MEAN, COV))
    assert one.identical(comparison.isel(label=[0]))


def test_seconds_are_unknown_where_a_result_has_none(results):
    old = results[0].copy()
    del old.attrs["seconds"]
    assert np.isnan(ek.compare([old], (MEAN, COV)).seconds.item())


def test_an_earlier_iteration_has_its_own_cost(results):
    first = ek.compare(results[:2], (MEAN, COV), iteration=0)
    assert first.model_runs.values.tolist() == [30, 31]
    assert first.seconds.isnull().all()
    u = results[0].u[0].values
    np.testing.assert_allclose(first.sel(label="EKI")["mean"], u.mean(axis=0))


def test_everything_is_labelled_and_survives_a_file(results, tmp_path):
    for i, result in enumerate(results):
        result.to_netcdf(tmp_path / f"{i}.nc")
    again = [xr.load_dataset(tmp_path / f"{i}.nc") for i in range(len(results))]
    comparison = ek.compare(results, results[2])
    assert ek.compare(again, again[2]).identical(comparison)
    for variable in comparison.data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]
    assert all(comparison[name].dims == ("label", "parameter") for name in PER_PARAMETER)
    comparison.to_netcdf(tmp_path / "comparison.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "comparison.nc"), comparison)


GOOD = holding(draws(10))
FEW = holding(np.full((10, 4), np.nan))


@pytest.mark.parametrize(
    ("results", "error", "message"),
    [
        ({}, ValueError, "results: must hold at least one result, got none"),
        ([], ValueError, "results: must hold at least one"),
        ("EKI", TypeError, "results: must be a mapping of labels .* got str"),
        (GOOD.u, TypeError, "results: must be a mapping of labels .* got DataArray"),
        ({"EKI": GOOD.u}, TypeError, r"results\['EKI'\]: must be the Dataset .* got DataArray"),
        ([GOOD, None], TypeError, r"results\[1\]: must be the Dataset .* got NoneType"),
        ({"a": GOOD.drop_vars("u")}, ValueError, r"results\['a'\]: must be .* without u"),
        ({1: GOOD, "1": GOOD}, ValueError, r"results: must have labels that differ .*\['1', '1'\]"),
        ({"a": FEW}, ValueError, r"results\['a'\]: must have at least two members left .* got 0"),
        (
            {"a": GOOD, "b": holding(draws(10), names=["a", "u1", "u2", "b"])},
            ValueError,
            r"results\['b'\]: must have the same parameters .* u0, u3 and with additional a, b",
        ),
    ],
)
def test_bad_results_are_named(results, error, message):
    with pytest.raises(error, match=message):
        ek.compare(results, (MEAN, COV))


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        (GOOD.drop_vars("u"), ValueError, "reference: must be the Dataset .* without u"),
        (FEW, ValueError, "reference: must hold at least two finite draws, got 0"),
        (None, (TypeError, ValueError), "reference: "),
        ("EKI", TypeError, "reference: must be a result, a tuple"),
        ([MEAN, COV], TypeError, "reference: must be a result, a tuple .* as draws"),
        ((MEAN[:3], COV), ValueError, r"tuple must be \(mean, cov\) .* \(3,\), \(4, 4\)"),
        ((MEAN, SD), ValueError, r"tuple must be .* \(4,\) and \(4, 4\), got \(4,\), \(4,\)"),
        ((MEAN,), ValueError, "tuple must be"),
        ((MEAN, -COV), ValueError, "positive, finite standard deviations, got 0.0 for 'u0'"),
        ((MEAN, COV + np.triu(COV, 1)), ValueError, "cov symmetric"),
        ((MEAN * np.nan, COV), ValueError, "mean must be finite"),
        (draws(20)[:, :3], ValueError, r"draws must have the shape .* p = 4, got \(20, 3\)"),
        (MEAN, ValueError, r"draws must have the shape \(n, p\) .* \(mean, cov\)"),
        (np.zeros((5, 4)), ValueError, "positive, finite standard deviations, got 0.0"),
        (np.full((5, 4), np.nan), ValueError, "at least two finite draws, got 0"),
        (GOOD.misfit, ValueError, "DataArray must have the dimension parameter"),
        ({"u0": (0, 1), "w": (0, 1)}, ValueError, r"parameters of the results \(u0, .* got w"),
        ({}, ValueError, "parameters of the results .* got none"),
        ({"u0": (0, 1, 2)}, ValueError, r"pair of finite numbers \(mean, sd\)"),
        ({"u0": 1.0}, ValueError, r"pair of finite numbers \(mean, sd\)"),
        ({"u0": (0, "wide")}, TypeError, "does not consist of numbers"),
        ({"u0": (0, 0)}, ValueError, "positive, finite standard deviations, got 0.0 for 'u0'"),
        ({"u0": (np.nan, 1)}, ValueError, "pair of finite numbers"),
    ],
)
def test_a_bad_reference_is_said(reference, error, message):
    with pytest.raises(error, match=message):
        ek.compare({"a": GOOD}, reference)


def test_an_iteration_that_is_not_stored_is_said():
    with pytest.raises(ValueError, match=r"results\['a'\], iteration: must be a stored iteration"):
        ek.compare({"a": GOOD}, (MEAN, COV), iteration=7)


def test_the_table_has_a_line_for_every_method(results):
    comparison = ek.compare(results, EXAMPLE.reference)
    lines = ek.compare_table(comparison).splitlines()
    assert len({len(line) for line in lines}) == 1  # aligned
    assert lines[0].split("  ")[0] == "method"
    assert [line[:11].strip() for line in lines[1:]] == comparison.label.values.tolist()
    smc = comparison.sel(label="TemperedSMC")
    assert lines[3].split() == [
        "TemperedSMC",
        f"{int(smc.model_runs):,}",
        *lines[3].split()[2:3],
        "32",
        f"{float(smc.n_effective):.0f}",
        f"{float(smc.mean_error_rms):.3f}",
        f"{float(smc.mean_error_expected):.3f}",
        f"{float(smc.mean_error_max):.3f}",
        f"{float(smc.sd_error_max):.3f}",
        "-",  # the covariance is not known
    ]
    assert float(lines[3].split()[2]) == pytest.approx(float(smc.seconds), rel=0.06)


def test_the_table_in_markdown(results):
    plain, markdown = (
        ek.compare_table(ek.compare(results, (MEAN, COV)), style=style)
        for style in ("plain", "markdown")
    )
    rows = [[cell.strip() for cell in line.split("|")] for line in markdown.splitlines()]
    assert {len(row) for row in rows} == {12}
    assert set("".join(rows[1])) == {"-", ":"}
    assert [" ".join(row).split() for row in rows[2:]] == [
        line.split() for line in plain.splitlines()[1:]
    ]


def test_the_table_of_a_mean_over_seeds(results):
    comparisons = [ek.compare(results, (MEAN, COV), iteration=i) for i in (0, 1)]
    mean = xr.concat(comparisons, "seed").mean("seed")
    assert "  45  " in ek.compare_table(mean)  # (30 + 60) / 2 model runs


def test_bad_arguments_of_the_table_and_the_picture():
    with pytest.raises(ValueError, match='style: must be "plain" or "markdown", got \'html\''):
        ek.compare_table(ek.compare([GOOD], (MEAN, COV)), style="html")
    for wrong in (GOOD, "EKI"):
        for shown in (ek.compare_table, ek.plot_comparison):
            with pytest.raises(TypeError, match="comparison: must be the Dataset that ek.compare"):
                shown(wrong)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_the_picture_shows_means_and_spreads_beside_the_reference(results):
    comparison = ek.compare(results[:2], (MEAN, COV))
    _, ax = plt.subplots()
    assert ek.plot_comparison(comparison, ax) is ax
    assert len(plt.get_fignums()) == 1
    assert [label.get_text() for label in ax.get_xticklabels()] == NAMES
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["reference, mean ± sd", "EKI", "EKI 2"]
    for i, container in enumerate(ax.containers):
        points, _, (bars,) = container
        np.testing.assert_allclose(points.get_ydata(), comparison.mean_error[i])
        lengths = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, comparison.sd_ratio[i])
        np.testing.assert_array_equal(np.round(points.get_xdata()), range(4))
    ax.figure.canvas.draw()


def test_the_picture_of_many_parameters_shows_error_and_cost():
    mean, cov = np.zeros(13), np.eye(13)
    members = {"few": holding(draws(20, 0, mean, cov)), "many": holding(draws(500, 1, mean, cov))}
    comparison = ek.compare(members, (mean, cov))
    ax = ek.plot_comparison(comparison)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    few, many, exact = ax.get_lines()
    assert [few.get_label(), many.get_label()] == ["few", "many"]
    for i, point in enumerate((few, many)):
        assert point.get_xdata() == [comparison.model_runs[i]]
        assert point.get_ydata() == [comparison.mean_error_rms[i]]
    np.testing.assert_allclose(exact.get_ydata(), 1 / np.sqrt([20, 500]))
    np.testing.assert_array_equal(exact.get_xdata(), comparison.model_runs)
    ax.figure.canvas.draw()
