"""The resident model and its states: every revision is a fold of deltas over the base, never a subtraction."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from worker.models.loaded import LoadedModel
from worker.models.view import Weights, rows_see


def digest(tensor: Tensor) -> str:
    """sha256 of a tensor's dtype, shape and bytes."""
    flat = tensor.detach().cpu().contiguous()
    seen = hashlib.sha256(f"{flat.dtype} {tuple(flat.shape)}\n".encode())
    seen.update(flat.reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()


def digests(weights: Weights) -> dict[str, str]:
    """sha256 of each tensor."""
    return {name: digest(tensor) for name, tensor in weights.items()}


class Resident:
    """The model in memory. Only the model thread may call what computes or writes.

    revision: the one whose weights are installed.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.revision = 0
        self._base: dict[str, Tensor] = {}
        self._installed: Weights = {}
        self._digests = {name: digest(tensor) for name, tensor in loaded.model.named_parameters()}
        self.base_checksum = self.checksum({})

    def name_of(self, layer: int) -> str:
        """The parameter that edits of a layer rewrite."""
        return self.loaded.family.mlp_out.format(layer) + ".weight"

    def base_of_layer(self, layer: int) -> Tensor:
        """The base of the weights that edits of a layer rewrite, [h, d] float32, on the CPU."""
        return self._oriented(self._base_of(self.name_of(layer)).float().cpu())

    def layer_in(self, weights: Weights, layer: int) -> Tensor:
        """What `base_of_layer` is of the base, of these weights."""
        name = self.name_of(layer)
        return self._oriented(weights[name].float().cpu()) if name in weights else self.base_of_layer(layer)

    def cast(self, totals: Mapping[int, Tensor]) -> Weights:
        """cast(base + total) for each layer, as the model holds its weights; totals are [h, d] float64, on the CPU."""
        return {self.name_of(layer): self._cast(self.name_of(layer), total) for layer, total in totals.items()}

    def checksum(self, changed: Mapping[str, str]) -> str:
        """sha256 over the digests of all the model's tensors, those of the edited ones being `changed`."""
        lines = (f"{name} {changed.get(name, known)}\n" for name, known in sorted(self._digests.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def install(self, revision: int, weights: Weights) -> None:
        """Make `weights` the model's own, and every other parameter the base's."""
        with torch.no_grad():
            for name in {*self._installed, *weights}:
                base = self._base_of(name)  # taken, whoever cast these weights, before anything else is put there
                self._parameter(name).data = weights.get(name, base)
        self._installed = dict(weights)
        self.revision = revision

    @contextmanager
    def view(self, rows: Sequence[Weights]) -> Iterator[None]:
        """Let row i of every batch see `rows[i]`; one alone holds for all rows. Within another view this one holds."""
        names = set(self._base).union(*rows)  # whatever a view around this one may have changed
        full = [{name: row[name] if name in row else self._base_of(name) for name in sorted(names)} for row in rows]
        with rows_see(self.loaded.model, full):
            yield

    def whole(self, weights: Weights) -> dict[str, Tensor]:
        """All tensors of the model with these edited weights, by name; what goes by several names only by its first."""
        model = self.loaded.model
        own = {name for name, _ in model.named_parameters()}
        again = {name for name, _ in model.named_parameters(remove_duplicate=False)} - own
        known = {**self._base, **weights}
        return {name: known.get(name, tensor) for name, tensor in model.state_dict().items() if name not in again}

    @property
    def installed(self) -> Weights:
        """The weights of the installed revision."""
        return self._installed

    def _base_of(self, name: str) -> Tensor:
        if name not in self._base:
            self._base[name] = self._parameter(name).data
        return self._base[name]

    def _parameter(self, name: str) -> Tensor:
        parameter: Tensor = self.loaded.model.get_parameter(name)
        return parameter

    def _oriented(self, weight: Tensor) -> Tensor:
        return weight.T.contiguous() if self.loaded.family.in_out else weight

    def _cast(self, name: str, total: Tensor) -> Tensor:
        base = self._base_of(name)
        summed = (self._oriented(base).cpu().double() + total).float()
        return self._oriented(summed).to(dtype=base.dtype, device=base.device)
