"""Random damage of media files."""

import random


def damage(content: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, cut and insert bytes, in headers more often than elsewhere."""
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 4, 16])):
        # Damage of headers has the most different effects.
        position = rng.randrange(rng.choice([64, 600, len(content)]))
        kind = rng.choice(["flip", "flip", "flip", "ones", "cut", "insert"])
        if kind == "flip":
            damaged[position : position + 1] = rng.randbytes(1)
        elif kind == "ones":
            damaged[position : position + 4] = b"\xff" * 4
        elif kind == "cut":
            del damaged[position : position + rng.randrange(1, 300)]
        else:
            damaged[position:position] = rng.randbytes(rng.randrange(1, 50))
    return bytes(damaged)
