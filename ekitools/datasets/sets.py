"""Data sets: descriptions, files and readers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ekitools.datasets.files import DataFile, house_numbers, idx, load

__all__ = [
    "Images",
    "Series",
    "fashion_mnist",
    "melbourne_temperatures",
    "mnist",
    "svhn",
    "zurich_sunspots",
]


class Images(NamedTuple):
    """Labelled images in their published form.

    See Also
    --------
    ekitools.datasets.mnist : Handwritten digits.
    ekitools.datasets.fashion_mnist : Pictures of clothes.
    ekitools.datasets.svhn : House numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.datasets import Images
    >>> black, zero = np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8)
    >>> Images(black, zero, black, zero, ("0", "1")).x_train.shape
    (1, 28, 28)
    """

    x_train: np.ndarray
    """Images ``(n, height, width)``, with colours as a fourth axis if any; uint8, 0 ... 255."""
    y_train: np.ndarray
    """Index in ``names`` for every image, ``(n,)``, uint8."""
    x_test: np.ndarray
    y_test: np.ndarray
    names: tuple[str, ...]


class Series(NamedTuple):
    """A time series.

    See Also
    --------
    ekitools.datasets.zurich_sunspots : Monthly sunspot numbers.
    ekitools.datasets.melbourne_temperatures : Daily minimum temperatures.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.datasets import Series
    >>> Series(np.array([58.0]), np.array(["1749-01"], "datetime64[M]"), "sunspots").values
    array([58.])
    """

    values: np.ndarray
    """Values ``(n,)``, float64."""
    dates: np.ndarray
    """Dates ``(n,)``, datetime64."""
    name: str


def mnist(*, download: bool = True) -> Images:
    """MNIST: 60,000 and 10,000 handwritten digits, 28 x 28.

    The data are by Y. LeCun, C. Cortes and C. Burges [1]_, under CC BY-SA 3.0. The files are below
    ``mnist/``.

    Parameters
    ----------
    download : bool, default True
        Whether missing files are downloaded (11 MB).

    Returns
    -------
    Images
        Pixels and labels, for training and for testing.

    Raises
    ------
    FileNotFoundError
        If a file is missing and cannot be downloaded.
    ValueError
        If a file differs from the published file.

    See Also
    --------
    ekitools.datasets.fashion_mnist : Pictures of clothes in the same form.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to
       document recognition, Proceedings of the IEEE 86 (1998).

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.datasets.mnist().x_train.shape  # doctest: +SKIP
    (60000, 28, 28)
    """
    return _four(_MNIST, tuple("0123456789"), download)


def fashion_mnist(*, download: bool = True) -> Images:
    """Fashion-MNIST: 60,000 and 10,000 pictures of clothes, 28 x 28.

    The data are by Zalando Research [1]_, under the MIT licence. The files are below
    ``fashion-mnist/``.

    Parameters
    ----------
    download : bool, default True
        Whether missing files are downloaded (31 MB).

    Returns
    -------
    Images
        Pixels and labels, for training and for testing.

    Raises
    ------
    FileNotFoundError
        If a file is missing and cannot be downloaded.
    ValueError
        If a file differs from the published file.

    See Also
    --------
    ekitools.datasets.mnist : Handwritten digits in the same form.

    References
    ----------
    .. [1] H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for
       benchmarking machine learning algorithms, arXiv:1708.07747.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.datasets.fashion_mnist().names[:3]  # doctest: +SKIP
    ('T-shirt/top', 'Trouser', 'Pullover')
    """
    return _four(_FASHION, _CLOTHES, download)


def svhn(*, download: bool = True) -> Images:
    """SVHN: 73,257 and 26,032 digits of house numbers, 32 x 32 in colour.

    The data are by Netzer et al. [1]_, for non-commercial use. The files are below ``svhn/``.
    Images are (n, 32, 32, 3). The label of the digit 0 is 0, although the files use 10. Only
    the format of the files is checked, because no checksum is known.

    Parameters
    ----------
    download : bool, default True
        Whether missing files are downloaded (246 MB).

    Returns
    -------
    Images
        Pixels and labels, for training and for testing.

    Raises
    ------
    FileNotFoundError
        If a file is missing and cannot be downloaded.
    ValueError
        If a file is not in the published format.

    See Also
    --------
    ekitools.datasets.mnist : Handwritten digits without colours.

    References
    ----------
    .. [1] Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng, Reading digits in
       natural images with unsupervised feature learning, NIPS workshop 2011.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.datasets.svhn().x_test.shape  # doctest: +SKIP
    (26032, 32, 32, 3)
    """
    (x, y), (x_test, y_test) = (load(file, house_numbers, download) for file in _SVHN)
    return Images(x, y, x_test, y_test, tuple("0123456789"))


def melbourne_temperatures(*, download: bool = True) -> Series:
    """Daily minimum temperatures in Melbourne in °C, 1981 to 1990, without leap days: 3,650.

    The data are by the Australian Bureau of Meteorology, from the Time Series Data Library [1]_ by
    way of a public collection that states no licence. The file is
    ``timeseries/daily-min-temperatures.csv``.

    Parameters
    ----------
    download : bool, default True
        Whether a missing file is downloaded (68 kB).

    Returns
    -------
    Series
        Values and dates.

    Raises
    ------
    FileNotFoundError
        If the file is missing and cannot be downloaded.
    ValueError
        If the file differs from the published file.

    See Also
    --------
    ekitools.datasets.zurich_sunspots : A monthly series.

    References
    ----------
    .. [1] R. Hyndman and Y. Yang, Time Series Data Library.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.datasets.melbourne_temperatures().values[:2]  # doctest: +SKIP
    array([20.7, 17.9])
    """
    return load(_TEMPERATURES, lambda data: _series(data, "D"), download)


def zurich_sunspots(*, download: bool = True) -> Series:
    """Monthly mean sunspot numbers, Zürich, 1749 to 1983: 2,820.

    The data are from Andrews and Herzberg [1]_, in the Time Series Data Library, by way of a public
    collection that states no licence. The file is ``timeseries/monthly-sunspots.csv``.

    Parameters
    ----------
    download : bool, default True
        Whether a missing file is downloaded (52 kB).

    Returns
    -------
    Series
        Values and dates.

    Raises
    ------
    FileNotFoundError
        If the file is missing and cannot be downloaded.
    ValueError
        If the file differs from the published file.

    See Also
    --------
    ekitools.datasets.melbourne_temperatures : A daily series.

    References
    ----------
    .. [1] D. F. Andrews and A. M. Herzberg, Data: a collection of problems from many fields for
       the student and research worker, Springer 1985.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.datasets.zurich_sunspots().values[:2]  # doctest: +SKIP
    array([58. , 62.6])
    """
    return load(_SUNSPOTS, lambda data: _series(data, "M"), download)


_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _gzipped(folder: str, url: str, sums: tuple[str, ...]) -> tuple[DataFile, ...]:
    return tuple(
        DataFile(f"{folder}/{name}", url + name, sha) for name, sha in zip(_IDX, sums, strict=True)
    )


_MNIST = _gzipped(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
_FASHION = _gzipped(
    "fashion-mnist",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
_SVHN = tuple(
    DataFile(f"svhn/{name}", f"http://ufldl.stanford.edu/housenumbers/{name}", None)
    for name in ("train_32x32.mat", "test_32x32.mat")
)
_BROWNLEE = "https://raw.githubusercontent.com/jbrownlee/Datasets/master/"
_TEMPERATURES = DataFile(
    "timeseries/daily-min-temperatures.csv",
    _BROWNLEE + "daily-min-temperatures.csv",
    "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da",
)
_SUNSPOTS = DataFile(
    "timeseries/monthly-sunspots.csv",
    _BROWNLEE + "monthly-sunspots.csv",
    "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3",
)


def _four(files: tuple[DataFile, ...], names: tuple[str, ...], download: bool) -> Images:
    x, y, x_test, y_test = (load(file, idx, download) for file in files)
    for images, labels in ((x, y), (x_test, y_test)):
        if (images.ndim, labels.ndim) != (3, 1) or len(images) != len(labels):
            raise ValueError(
                f"{files[0].path}: must have as many images as labels, got shapes {images.shape} "
                f"and {labels.shape}. Delete both files to download them again."
            )
    return Images(x, y, x_test, y_test, names)


def _series(data: bytes, unit: str) -> Series:
    head, *rows = (line.replace('"', "").split(",") for line in data.decode().splitlines())
    if len(head) != 2 or not rows or any(len(row) != 2 for row in rows):
        raise ValueError(f"it must have rows of a date and a number, got the head {head}")
    dates, values = zip(*rows, strict=True)
    return Series(
        np.array(values, dtype=np.float64), np.array(dates, dtype=f"datetime64[{unit}]"), head[1]
    )
