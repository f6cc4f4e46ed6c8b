"""Texts as points: the features of the built-in embedder, weighed by how rare they are here, reduced to their main directions."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from promptops.core.errors import DataError
from promptops.runtime.embedding import MAX_CHARS, features

DIMENSIONS = 128
_FITTED_ON = 20_000
_MAX_FEATURES = 60_000
_BATCH = 5_000


def lexical_matrix(texts: Sequence[str]) -> Any:
    """TF-IDF rows of length 1 (scipy CSR, float32), features in at least two texts; None when there are none."""
    counted = _counted(texts)
    vocabulary = _Vocabulary(counted)
    return vocabulary.rows(counted) if vocabulary.size else None


class TextSpace:
    """Latent semantic analysis (Deerwester et al. 1990) of a corpus; distances are 1 - cosine, 0..2.

    Learnt from at most 20,000 of the texts. Raises DataError when fewer than two texts share a word.
    """

    def __init__(self, corpus: Sequence[str], *, seed: int = 0) -> None:
        import numpy as np
        from sklearn.utils.extmath import randomized_svd

        picked = np.random.default_rng(seed).permutation(len(corpus))[:_FITTED_ON]
        counted = _counted([corpus[index] for index in sorted(picked.tolist())])
        self._vocabulary = _Vocabulary(counted)
        if not self._vocabulary.size:
            raise DataError("the texts have no word in common", why="nothing can be said about which are alike", hint="is this the right field of the log?")  # fmt: skip
        matrix = self._vocabulary.rows(counted)
        size = max(1, min(DIMENSIONS, min(matrix.shape) - 1))
        _, _, directions = randomized_svd(matrix, n_components=size, n_iter=2, random_state=seed)
        self._directions = np.ascontiguousarray(directions.T, dtype=np.float32)

    def embed(self, texts: Sequence[str], spread: Callable[..., Iterator[Any]] = map) -> Any:
        """A row of length 1 for each text (float32); zeros for one without any known feature.

        Features are counted by `spread`, which may use other processes; everything that rounds is done here, so the rows are the same.
        """
        import numpy as np

        found = np.zeros((len(texts), self._directions.shape[1]), dtype=np.float32)
        starts = range(0, len(texts), _BATCH)
        for start, counted in zip(starts, spread(_counted, (texts[place : place + _BATCH] for place in starts)), strict=True):  # fmt: skip
            part = self._vocabulary.rows(counted) @ self._directions
            length = np.linalg.norm(part, axis=1, keepdims=True)
            found[start : start + _BATCH] = part / np.maximum(length, 1e-6)
        return found


class _Vocabulary:
    """The features that at least two texts have (the most frequent 60,000), with their weights."""

    def __init__(self, counted: Any) -> None:
        import numpy as np

        ids, _, _ = counted
        texts = len(counted[2]) - 1
        self.known, often = np.unique(ids, return_counts=True)
        kept = np.flatnonzero(often >= min(2, max(1, texts - 1)))
        if len(kept) > _MAX_FEATURES:
            kept = np.sort(kept[np.argsort(-often[kept], kind="stable")[:_MAX_FEATURES]])
        self.known, often = self.known[kept], often[kept]
        self.weights = (np.log((1 + texts) / (1 + often)) + 1).astype(np.float32)
        self.size = len(self.known)

    def rows(self, counted: Any) -> Any:
        import numpy as np
        from scipy.sparse import csr_matrix

        ids, counts, starts = counted
        where = np.minimum(np.searchsorted(self.known, ids), self.size - 1)
        mine = self.known[where] == ids
        row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[mine]
        where = where[mine].astype(np.int32)
        values = (1 + np.log(counts[mine])).astype(np.float32) * self.weights[where]
        length = np.sqrt(np.bincount(row, weights=values**2, minlength=len(starts) - 1))
        pointers = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=len(starts) - 1)))).astype(np.int32)
        return csr_matrix(((values / length[row]).astype(np.float32), where, pointers), shape=(len(starts) - 1, self.size))  # fmt: skip


def _counted(texts: Sequence[str]) -> Any:
    """(feature ids, how often, where each text begins), ids in order and once a text."""
    import numpy as np

    ids: list[Any] = []
    counts: list[Any] = []
    starts = [0]
    for text in texts:
        words, letters = features(text[:MAX_CHARS])
        found, often = np.unique(np.array(words + letters, dtype=np.int32), return_counts=True)
        ids.append(found)
        counts.append(often.astype(np.float32))
        starts.append(starts[-1] + len(found))
    return (
        np.concatenate(ids or [np.zeros(0, np.int32)]),
        np.concatenate(counts or [np.zeros(0, np.float32)]),
        np.array(starts),
    )
