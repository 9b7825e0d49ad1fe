"""sha256 of texts and files, and seeds from it. No torch: decoder processes import this file."""

import hashlib


def seed_of(*parts):
    """A 63-bit seed from texts and numbers."""
    return int(digest("\0".join(map(str, parts)))[:16], 16) >> 1


def digest(text):
    """sha256 of a text, as hex."""
    # surrogatepass: the name of a file need not be UTF-8
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def digest_files(files):
    """sha256 of the names and bytes of files, as hex."""
    hashed = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            name = path.name.encode(errors="surrogatepass")
            hashed.update(name + hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()
