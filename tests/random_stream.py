"""The random stream that every engine has to give, in plain Python integers: slow, and hard to get wrong.

`tests/test_philox.py` checks it against the vectors that the authors of Philox published.
"""

from __future__ import annotations

import bisect

M32 = 2**32 - 1
PERMUTATION, NEGATIVES = 1, 2  # streams
POPULARITY_ATTEMPTS = 16


def philox(counters, key):
    """Philox-4x32-10: four counters and two keys of 32 bits each give four words."""
    a, b, c, d = counters
    k, l = key  # noqa: E741
    for _ in range(10):
        ac, bd = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = bd >> 32 ^ b ^ k, bd & M32, ac >> 32 ^ d ^ l, ac & M32
        k, l = k + 0x9E3779B9 & M32, l + 0xBB67AE85 & M32  # noqa: E741
    return a, b, c, d


def draw(seed, epoch, stream, number, attempt=0):
    block, word = divmod(number, 4)
    return philox((block & M32, block >> 32, epoch, stream << 16 | attempt), (seed & M32, seed >> 32))[word]


def below(word, n):
    return word * n >> 32


def uniform_negative(seed, epoch, position, slot, slots, num_items, first=0):
    return first + below(draw(seed, epoch, NEGATIVES, position * slots + slot), num_items - first)


def unseen_negative(seed, epoch, position, slot, slots, num_items, positives, attempt=0):
    """The x-th of the items that are left: found by listing them."""
    left = [item for item in range(num_items) if item not in set(positives)]
    return left[below(draw(seed, epoch, NEGATIVES, position * slots + slot, attempt), len(left))]


def popularity_negative(seed, epoch, position, slot, slots, num_items, positives, thresholds):
    for attempt in range(POPULARITY_ATTEMPTS):
        item = bisect.bisect_right(thresholds, draw(seed, epoch, NEGATIVES, position * slots + slot, attempt))
        if item not in positives:
            return item
    return unseen_negative(seed, epoch, position, slot, slots, num_items, positives, attempt=POPULARITY_ATTEMPTS)


def permutation(seed, epoch, n):
    """The epoch's order: a function from position to index."""
    bits = max(2, (n - 1).bit_length())
    keys = [draw(seed, epoch, PERMUTATION, i) for i in range(6 if n >= 1024 else 16)]

    def network(x):
        left_bits, right_bits = bits // 2, bits - bits // 2
        left, right = x >> right_bits, x % 2**right_bits
        for key in keys:
            h = (right + key & M32) * 0x9E3779B1 & M32
            h = (h ^ h >> 15) * 0x85EBCA77 & M32
            left, right = right, (left + (h ^ h >> 13)) % 2**left_bits
            left_bits, right_bits = right_bits, left_bits
        return left << right_bits | right

    def index(position):
        x = network(position)
        while x >= n:
            x = network(x)
        return x

    return index
