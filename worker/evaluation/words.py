"""Words as the Penn Treebank splits them, and how evenly a text uses its sequences of them."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

WEIGHTS = {2: 2 / 3, 3: 4 / 3}
"""Of the entropies of bigrams and trigrams (ROME, appendix; kmeng01's code takes the mean of the weighted two)."""

_GOES_ON = re.compile(
    r"""[(\[{<"'\u201c\u2018«]* (?i: [^\W\d_] | [au]\.[ksm] | p\.m | ph\.d | i\.e | e\.g | u\.n | adm | al | ave | brig
    | capt | cf | cols? | corp? | co | dr | est | etc | ex | figs? | gen | gov | inc | jr | ltd? | maj | mrs? | ms | mt
    | nos? | op | pp | prof | rep | rev | sen | sgt | sr | st | vols? | vs | jan | feb | mar | apr | ju[nl] | aug |
    sept? | oct | nov | dec)""",
    re.VERBOSE,
)
"""An initial or an abbreviation: the period behind it ends no sentence."""

_SENTENCE_END = re.compile(r"""(?P<word>\S*?)(?P<end>[.?!]+)[\])}>"'»\u201d\u2019]*\s+""")

_SEPARATE = r"""
      \.{2,} | --                                # an ellipsis, a dash
    | [;@\#$%&?!*\[\](){}<>„«»\u201c\u201d\u2018\u2019\u2013\u2014]
    | [:,](?!\d)                                 # not within 1,000 or 12:30
    | " | ``
    | (?i:n't | '(?:s|m|d|ll|re|ve)?)(?![^\W_])  # don't is do n't, Mary's is Mary 's
    | (?<!\S)'(?=\w)(?!t\b)                      # that opens a quotation
    | (?<!\w)(?i:can(?=not(?!\w)) | (?:gon|wan)(?=na(?!\w)) | got(?=ta(?!\w)) | (?:gim|lem)(?=me(?!\w)))
    | (?<=[^.])\.(?=[\])}>"'»\u201d\u2019]*$)    # the sentence's last
"""
_TOKEN = re.compile(rf"{_SEPARATE} | (?:(?!{_SEPARATE})\S)+", re.VERBOSE)


def words(text: str) -> list[str]:
    """The words and punctuation marks of a text, sentence by sentence."""
    return [word for sentence in _sentences(text) for word in _split(sentence)]


def ngram_entropy(text: str) -> float:
    """1/2 (2/3 H2 + 4/3 H3), H_n the entropy of the text's n-grams of words, bits; 0 of a text without a trigram."""
    found = words(text)
    return sum(weight * _entropy(found, n) for n, weight in WEIGHTS.items()) / len(WEIGHTS)


def _entropy(tokens: Sequence[str], n: int) -> float:
    counts = Counter(zip(*(tokens[at:] for at in range(n)), strict=False))
    total = counts.total()
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def _sentences(text: str) -> list[str]:
    found, begin = [], 0
    for match in _SENTENCE_END.finditer(text):
        if match["end"] == "." and _GOES_ON.fullmatch(match["word"]):
            continue
        found.append(text[begin : match.end()].rstrip())
        begin = match.end()
    return [*found, text[begin:].rstrip()]


def _split(sentence: str) -> Iterator[str]:
    """The tokens of one sentence; opening and closing double quotes are told apart."""
    for match in _TOKEN.finditer(sentence):
        if match[0] == '"':
            yield "``" if sentence[: match.start()][-1:] in ("", *" ([{<") else "''"
        else:
            yield match[0]
