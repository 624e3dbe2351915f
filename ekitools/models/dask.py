"""A model on its way to all workers of a dask cluster, those that start later included."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from ekitools.models.remote import keep

__all__ = ["ModelPlugin"]


class ModelPlugin(WorkerPlugin):
    """Unpickles a model in every worker."""

    def __init__(self, digest: str, pickled: bytes) -> None:
        self.name = f"ekitools-model-{digest}"
        self.digest, self.pickled = digest, pickled

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - dask's signature
        """Called once in every worker."""
        keep(self.digest, self.pickled)
        self.pickled = b""
