"""TF-IDF as scikit-learn's TfidfVectorizer computes it by default: how alike two texts are in their words."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

_WORD = re.compile(r"\b\w\w+\b")


class Tfidf:
    """Weighs words by how few of the documents have them; a word that none has counts for nothing."""

    def __init__(self, documents: Iterable[str]) -> None:
        seen: Counter[str] = Counter()
        count = 0
        for document in documents:
            seen.update(set(_words(document)))
            count += 1
        self._idf = {word: math.log((1 + count) / (1 + found)) + 1 for word, found in seen.items()}

    def similarity(self, text: str, other: str) -> float:
        """The cosine of the angle between both texts, 0 to 1; 0 if one has no word that a document has."""
        left, right = self._weights(text), self._weights(other)
        product = sum(weight * right.get(word, 0.0) for word, weight in left.items())
        norm = math.hypot(*left.values()) * math.hypot(*right.values())
        return product / norm if norm else 0.0

    def _weights(self, text: str) -> Mapping[str, float]:
        counts = Counter(_words(text))
        return {word: count * self._idf[word] for word, count in counts.items() if word in self._idf}


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
