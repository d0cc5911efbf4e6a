"""What the worker publishes of its model: the card, from which the API can refuse a bad edit without a model."""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from service.contracts.model import NO_CEILINGS, Ceilings, MethodCard, ModelCard
from worker.editing.method import Method
from worker.editing.templates import longest
from worker.engine.resident import Resident
from worker.models.loaded import LoadedModel

DEFAULT_TEMPLATES = ((5, 10), (10, 10))


def card_of(
    resident: Resident,
    methods: Mapping[str, Method],
    defaults: Mapping[str, Mapping[str, Any] | None],
    ceilings: Ceilings = NO_CEILINGS,
) -> ModelCard:
    """The card of the resident model; `defaults` are the shipped hyperparameters by method."""
    loaded = resident.loaded
    return ModelCard(
        name=loaded.name,
        family=loaded.family.name,
        dtype=str(loaded.dtype).removeprefix("torch."),
        device=str(loaded.device),
        parameters=sum(parameter.numel() for parameter in loaded.model.parameters()),
        layers=loaded.layers,
        hidden_size=int(loaded.config.hidden_size),
        context_length=loaded.context_length,
        editable=loaded.family.mlp_out + ".weight",
        checksum=resident.base_checksum,
        tokenizer=hashlib.sha256(tokenizer_text(loaded).encode()).hexdigest(),
        methods=tuple(_method_card(method, defaults[method.name], loaded) for method in methods.values()),
        template_tokens=longest(DEFAULT_TEMPLATES),
        ceilings=ceilings,
        chat=loaded.tokenizer.chat_template is not None,
    )


def tokenizer_text(loaded: LoadedModel) -> str:
    """The fast tokenizer, serialized as JSON."""
    return str(loaded.tokenizer.backend_tokenizer.to_str())


def _method_card(method: Method, defaults: Mapping[str, Any] | None, loaded: LoadedModel) -> MethodCard:
    return MethodCard(
        name=method.name,
        title=method.title,
        source=method.source,
        batch=method.batch,
        hparams_schema=_schema(method, loaded),
        # through the type, so that what YAML leaves as a string is a number here
        defaults=None if defaults is None else method.hparams.model_validate(defaults).model_dump(mode="json"),
    )


def _schema(method: Method, loaded: LoadedModel) -> dict[str, Any]:
    """The hyperparameters' JSON Schema, with the model's last layer as the bound of every layer that it has."""
    schema = deepcopy(method.hparams.model_json_schema())
    properties = schema["properties"]
    layers = [properties["layers"]["items"]] if "layers" in properties else []
    layers += [properties["v_loss_layer"]] if "v_loss_layer" in properties else []
    for layer in layers:
        layer["maximum"] = loaded.layers - 1
    return schema
