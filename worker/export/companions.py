"""The files beside a checkpoint's weights: configurations and tokenizer, as transformers writes them."""

import copy
import tempfile
from pathlib import Path

from worker.models.loaded import LoadedModel


def companions(loaded: LoadedModel) -> dict[str, bytes]:
    """Their contents by name. Nothing in them says where the model was loaded from."""
    config = copy.deepcopy(loaded.config)
    config.architectures = [type(loaded.model).__name__]
    config.dtype = loaded.dtype
    generation = loaded.published_generation or loaded.model.generation_config
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        # not with its own save_pretrained, which refuses what some publishers have written
        Path(folder, "generation_config.json").write_text(generation.to_json_string(), "utf-8")
        loaded.tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}
