"""Ensemble Kalman inversion for networks whose layers are accessible.

This folder is not public. Its interface may change without notice, and only
`ekitools.experiments` uses it. There are three kinds of members:

* `rank_one`: one ensemble for all data. The deviation of every layer is a matrix of rank one, which
  makes members cheap to evaluate. Dense networks.
* `per_datum`: members of its own for every datum of a batch, in the space of the sums of a layer,
  where few members give an exact covariance. Dense networks.
* `layerwise`: members of every layer, whose covariances are chained from layer to layer.
  Convolutional networks.

All three are variants of `ekitools.CurvatureEKI`. They need access to the layers, so they are not
methods of `ekitools.run`.

`loop.learned` is therefore a second loop beside `ekitools.run`. It draws growing batches, takes
steps, measures accuracies and keeps its checkpoint in a file ``state.pt``. `ekitools.run` cannot
take its place: there a method receives an ensemble and its outputs, and a checkpoint holds this
ensemble. Here a step opens the network, draws other members for every layer or datum, and keeps
only the mean, its average and the latest steps, as torch tensors.

`gauss_newton` is the step that `per_datum` and `layerwise` share, `network` holds parameters and
states, and `options` holds the options.
"""
