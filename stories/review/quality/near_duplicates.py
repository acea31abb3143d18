"""Finds the stories that a text is nearly the same as, in time that hardly grows with their number.

Fingerprint: MinHash over the pairs of characters of the normalised text, 24 bands of 4 rows. Two texts that share
a band are candidates (of pairs that RapidFuzz scores 86 and more, 95 % and more; of unlike ones hardly any);
RapidFuzz then scores the likeliest few. The bands are rows, so that all workers share them and none has to hold
or rebuild an index. Figures: `bench/duplicates.py`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from django.conf import settings
from django.db import transaction
from numpy.typing import NDArray
from rapidfuzz import fuzz

from stories.models import Band, Fingerprint, Story
from stories.review.quality.passages import normalise

BANDS, ROWS = 24, 4
MAX_ROWS = 2000  # of bands looked at for one text, however many texts are alike
MAX_SCORED = 16
MIN_SIGNS = 20  # characters: shorter texts are alike by chance
_PRIME = np.uint64((1 << 31) - 1)
_RANDOM = np.random.default_rng(20261122)
_FACTORS = _RANDOM.integers(1, int(_PRIME), size=(BANDS * ROWS, 1), dtype=np.uint64)
_OFFSETS = _RANDOM.integers(0, int(_PRIME), size=(BANDS * ROWS, 1), dtype=np.uint64)
_MIX = _RANDOM.integers(1, 1 << 63, size=(BANDS, ROWS), dtype=np.uint64) | np.uint64(1)
_PLACES = (np.arange(BANDS, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)


@dataclass(frozen=True)
class Signature:
    """What is kept of a text: its digest, and the keys of its bands (none for a very short one)."""

    digest: int
    keys: tuple[int, ...]


@dataclass(frozen=True)
class Neighbour:
    """A story that a text is like: 100 is the same but for punctuation."""

    story: Story
    score: float


def compute_signature(plain: str) -> Signature:
    """The MinHash signature of a normalised text."""
    hashed = hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).digest()
    digest = int.from_bytes(hashed, "big", signed=True)
    return Signature(digest, tuple(band_keys(plain)) if len(plain) >= MIN_SIGNS else ())


def band_keys(plain: str) -> list[int]:
    """One signed 64-bit key per band."""
    mixed = ((_least_hashes(plain) * _MIX).sum(axis=1, dtype=np.uint64) ^ _PLACES).astype(np.uint64)
    keys: list[int] = mixed.view(np.int64).tolist()
    return keys


def _least_hashes(plain: str) -> NDArray[np.uint64]:
    """The least value of each of 96 hash functions over the pairs of characters, BANDS × ROWS."""
    signs = np.frombuffer(plain.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    pairs = np.unique((signs[:-1] << np.uint64(21)) | signs[1:])
    scattered = ((pairs * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)) % _PRIME
    # Both factors are below 2^31, so that the products fit into 64 bits.
    hashed: NDArray[np.uint64] = ((scattered * _FACTORS + _OFFSETS) % _PRIME).min(axis=1)
    return hashed.reshape(BANDS, ROWS)


@transaction.atomic
def store_signature(story: Story, signature: Signature) -> bool:
    """Stores the story's fingerprint for later ones to meet; True if it is new or another than before."""
    kept, created = Fingerprint.objects.get_or_create(
        story_id=story.pk, defaults={"digest": signature.digest}
    )
    if not created:
        if kept.digest == signature.digest:
            return False
        kept.bands.all().delete()
        Fingerprint.objects.filter(pk=kept.pk).update(digest=signature.digest)
    Band.objects.bulk_create(Band(key=key, fingerprint=kept) for key in signature.keys)
    return True


def delete_signature(story: Story) -> bool:
    """The story is no neighbour any more; True if it was one."""
    deleted, _rows = Fingerprint.objects.filter(story_id=story.pk).delete()
    return bool(deleted)


def find_neighbours(story: Story, plain: str, signature: Signature) -> list[Neighbour]:
    """The written stories whose text is nearly `plain`, the likest first."""
    # By key alone: with the state or an order in the query, SQLite walks through all stories instead.
    rivals = Story.objects.filter(pk__in=_candidates(story, signature)).order_by()
    scores = {
        pk: score(plain, normalise(edited or text))
        for pk, state, text, edited in rivals.values_list("pk", "state", "text", "edited_text")
        if state == Story.State.WRITTEN
    }
    least = settings.QUALITY_DUPLICATE_SCORE
    alike = Story.objects.in_bulk([pk for pk, likeness in scores.items() if likeness >= least])
    found = [Neighbour(rival, scores[pk]) for pk, rival in alike.items()]
    return sorted(found, key=lambda neighbour: (-neighbour.score, order_of(neighbour.story)))


def _candidates(story: Story, signature: Signature) -> Sequence[UUID]:
    """The stories that share the most bands with the text, and one with exactly the same text."""
    same = Fingerprint.objects.filter(digest=signature.digest).values_list("story_id", flat=True)[:3]
    others = [pk for pk in same if pk != story.pk]
    if not signature.keys:
        return others
    met = Band.objects.filter(key__in=signature.keys).values_list("fingerprint_id", flat=True)[:MAX_ROWS]
    likest = Fingerprint.objects.filter(pk__in=_most_frequent(met)).values_list("story_id", flat=True)
    return [*others, *(pk for pk in likest if pk != story.pk)]


def _most_frequent(keys: Iterable[int]) -> list[int]:
    times: dict[int, int] = {}
    for key in keys:
        times[key] = times.get(key, 0) + 1
    # One more: the text's own fingerprint shares every band.
    return sorted(times, key=lambda key: (-times[key], key))[: MAX_SCORED + 1]


def score(plain: str, other: str) -> float:
    """How alike two normalised texts are, 0 to 100."""
    return round(fuzz.ratio(plain, other, score_cutoff=settings.QUALITY_DUPLICATE_SCORE), 1)


def order_of(story: Story) -> tuple[object, ...]:
    """Which of two stories was there first: by their end, then by key."""
    return (story.ended_at or story.created_at, story.pk)
