"""What was used last is kept, up to a number of bytes."""

from collections.abc import Callable
from typing import TypeVar

from cachetools import LRUCache

Value = TypeVar("Value")


class ByteCache(LRUCache[str, Value]):
    """Values by name; the least recently used ones go first. What is larger than all of it is rebuilt every time."""

    def __init__(self, most: int, size: Callable[[Value], int]) -> None:
        super().__init__(most, size)

    def keep(self, name: str, value: Value) -> None:
        """Keep what fits."""
        if self.getsizeof(value) <= self.maxsize:
            self[name] = value
