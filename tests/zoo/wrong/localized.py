"""Rows of the table: rules of localization, and the choice of their strength."""

from __future__ import annotations

import numpy as np

import ekitools as ek
from zoo.wrong import right
from zoo.wrong.kinds import (
    CHOICE,
    COUNT,
    LOCALIZATION,
    POSITIVE,
    POSITIVE_OR_INFINITE,
    SD,
    anything,
    array,
    elsewhere,
    kind,
    optional,
)
from zoo.wrong.problems import NOISE
from zoo.wrong.table import swept

swept("localization.Correlation", threshold=POSITIVE)
swept("localization.Nice", delta=POSITIVE)
swept(
    "localization.Distance",
    {"parameters": np.zeros((6, 2)), "data": np.zeros((3, 2))},
    parameters=optional(array(6, 2)).but("five by five", "five numbers"),
    data=optional(array(3, 2)),
    radius=POSITIVE_OR_INFINITE.but("zero").also("near", b"adaptive", ["adaptive"]),
    taper=CHOICE,
    metric=CHOICE.also("haversine", "great circle"),
    coordinates=kind(
        "names", *("x", b"x", ["x", 3], [None], {"x", "y"}, [""], 3, ("x", "x")), right=("None",)
    ).but("list of texts", "array of texts"),
    resolution=kind("share", 1.5, -0.5, [0.5], "0.5", np.ones(2), right=("zero",)),
)
swept(
    "localization.Groups",
    {"groups": {0: 1}},
    groups=kind(
        "groups",
        *([0, 1], "ab", {0: None}, {None: 0}, {0: 1.5}, {"": 0}, {0: [None]}, {0: ""}, ()),
        *({0: True}, {0: {1}}, ((0, 1, 2),)),
    ),
)
swept(
    "localization.Product",
    {"rules": (ek.localization.Unbiased(), ek.localization.Fisher())},
    rules=kind(
        "rules", *([ek.localization.Fisher()], ek.localization.Fisher(), (3, 4), ("a", "b"))
    ),
)
CHOSEN = {
    "localization": ek.localization.Correlation(), "u": right.MEMBERS, "g": right.OUTPUTS,
    "data": right.DATA,
}  # fmt: skip
swept(
    "localization.choose_strength(noise_sd=)", {**CHOSEN, "noise_sd": 1.0}, noise_sd=SD.also([1.0])
)
swept(
    "localization.choose_strength",
    {**CHOSEN, "noise": np.ones(3)},
    localization=LOCALIZATION.also(ek.localization.Unbiased(), ek.localization.Groups({0: 0})),
    u=array(6, 2, lists=False, sized=False).without("five by five"),
    g=array(6, 3, lists=False),
    data=array(3),
    noise=NOISE.also(ek.Huber(1.0), np.eye(3) + 0.1),
    step=POSITIVE,
    n_parameters=COUNT,
    noise_sd=elsewhere(),
    target=anything("it is asked for names and places that the rule does not have"),
)
