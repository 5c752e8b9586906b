"""Words of a text as phrases are looked for in it: case-folded, without the punctuation around them, `it's` as `it`."""

import re
from typing import Final

TYPOGRAPHY: Final = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": " - ", "—": " - ", "…": "... "})
"""What word processors write, as it is typed."""

_WORD: Final = re.compile(r"\w+(?:'\w+)*")


def words(text: str) -> list[str]:
    """The words of a text, in its order; letters, digits and `_` make a word, and an apostrophe between them."""
    return [word.removesuffix("'s") for word in _WORD.findall(text.translate(TYPOGRAPHY).casefold())]
