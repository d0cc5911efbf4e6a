"""Which text key statistics are taken over, and what that text depends on."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from worker.editing.progress import Steps
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.statistics import corpus, hub, sampled, windows
from worker.statistics.moments import Read


@dataclass(frozen=True)
class Text:
    """source: changes when the text or the way it is cut does; read: its batches, as many as were asked for."""

    source: str
    read: Read


class Texts:
    """The texts that a model can be run over. corpus: the file or folder behind mom2_dataset "corpus"."""

    def __init__(self, loaded: LoadedModel, checksum: str, directory: Path, corpus: Path | None) -> None:
        self._loaded = loaded
        self._checksum = checksum
        self._directory = directory
        self._corpus = corpus
        self._digests: dict[object, str] = {}

    def text(self, dataset: str, tokens: int) -> Steps[Text]:
        """The first `tokens` tokens of "self", "corpus" or one of hub.DATASETS; EditError if there is no such text."""
        cut = f"{windows.ROWS} x {windows.window_length(self._loaded)}"
        if dataset == "self":
            return self._own(f"self {cut} x {sampled.BATCHES}", tokens)
        if dataset == "corpus":
            found = self._corpus_files()
            digest = yield from self._digest(found)
            return self._cut(f"{digest} {cut}", lambda: corpus.documents(found), tokens)
        source = f"{hub.DATASETS[dataset]} {hub.SEED} {hub.BUFFER} {hub.MOST_CHARACTERS} {cut}"
        return self._cut(source, lambda: hub.documents(dataset), tokens)

    def _cut(self, source: str, documents: Callable[[], Iterable[str | None]], tokens: int) -> Text:
        return Text(source, lambda first: windows.batches(self._loaded, documents(), tokens, first))

    def _own(self, source: str, tokens: int) -> Text:
        key = hashlib.sha256(f"{self._checksum}\n{source}".encode()).hexdigest()[:32]
        return Text(source, partial(sampled.batches, self._loaded, self._directory / f"self.{key}", tokens))

    def _corpus_files(self) -> Sequence[Path]:
        if self._corpus is None:
            detail = "the worker was started without PALIMPSEST_CORPUS; use 'self'"
            raise EditError("no-corpus", "hparams.mom2_dataset", detail)
        return corpus.files(self._corpus)

    def _digest(self, found: Sequence[Path]) -> Steps[str]:
        """Hashed again only where a file has changed."""
        signature = corpus.signature(found)
        if signature not in self._digests:
            self._digests[signature] = yield from corpus.digest(found)
        return self._digests[signature]
