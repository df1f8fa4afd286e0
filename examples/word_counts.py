"""Count words in many files: one job a file, results as the function's annotation says.

callboard up word_counts:app --detach
python word_counts.py *.md
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from callboard import Callboard, Discard

app = Callboard("words")


@dataclasses.dataclass
class Count:
    path: str
    words: int
    commonest: list[str]


@app.job(lane="short", attempts=2, tags=["text"])
def count(path: str, most: int = 3) -> Count:
    """A plain function: it runs in a thread."""
    try:
        words = Path(path).read_text().lower().split()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise Discard(f"nothing to count: {error}") from None  # Another attempt would not help.
    return Count(path, len(words), [word for word, _ in Counter(words).most_common(most)])


async def main(paths: list[str], store: Any = None) -> None:
    async with app.connect(store):
        jobs = await count.submit_many([{"path": path} for path in paths])
        for job in jobs:
            found = await job.result(timeout=30)
            print(f"{found.words:8}  {Path(found.path).name}  {', '.join(found.commonest)}")


if __name__ == "__main__":
    asyncio.run(main([os.path.abspath(path) for path in sys.argv[1:] or [__file__]]))
