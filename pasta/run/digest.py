"""sha256 of texts and files, and seeds from it. No torch: decoder processes import this file."""

import hashlib


def seed_of(*parts):
    """A 63-bit seed from texts and numbers."""
    hashed = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(hashed[:8], "big") >> 1


def digest(text):
    """sha256 of a text, as hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_files(files):
    """sha256 of the names and bytes of files, as hex."""
    hashed = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            hashed.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()
