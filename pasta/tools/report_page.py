"""One page of HTML that needs nothing else: pictures are inside, and there are no scripts.

What stands in pairs and answers was written by models and by strangers, so every text goes through
`text`, and the page forbids itself to fetch anything.

Shapes: H, W pixels.
"""

import base64
import re
import struct
from difflib import SequenceMatcher
from html import escape

COLOURS = {"spatial": "#4477aa", "temporal": "#ccbb44", "cross_frame": "#228833", "mean": "#333333"}
WIDTH = 980  # pixels of the column of text
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 980px; margin: 2em auto; padding: 0 1em; color: #222 }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2em; border-bottom: 1px solid #ccc }
h3 { margin: 1.8em 0 0.4em; padding-left: 0.6em; border-left: 0.5em solid #999 }
p { margin: 0.4em 0 } nav a { margin-right: 1em }
pre { overflow-x: auto; background: #f5f5f5; padding: 0.6em; font-size: 12px }
pre.asked { white-space: pre-wrap; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: 0.5em 0 }
td, th { padding: 0.15em 0.8em 0.15em 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
figure { margin: 0.8em 0 } figcaption { font-size: 13px; color: #555 }
img { max-width: 100%; height: auto } img.pixels { image-rendering: pixelated }
ins, del { text-decoration: none; border-radius: 3px; padding: 0 2px }
ins { background: #c8ecc8 } del { background: #f7cccc }
.missing { background: #fff3cd; padding: 0.5em 0.8em }
"""


def text(value):
    """Any value as text of the page."""
    return escape(str(value))


def paragraph(words):
    """A paragraph of plain words."""
    return f"<p>{text(words)}</p>"


def missing(what, command=""):
    """A sentence that names what is not there, and the command that makes it."""
    told = f"; next: <code>{text(command)}</code>" if command else ""
    return f'<p class="missing">{text(what)}{told}</p>'


def block(words, kind=""):
    """Text whose lines and columns stay as they are."""
    return f'<pre class="{kind}">{text(words)}</pre>'


def table(head, rows):
    """A table of plain cells, one row or more; columns of numbers stand at the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    kinds = ["n" if all(map(is_number, column)) else "" for column in zip(*rows, strict=True)]

    def line(cells, tag):
        cells = zip(cells, kinds, strict=True)
        return "".join(f'<{tag} class="{kind}">{text(cell)}</{tag}>' for cell, kind in cells)

    lines = [line(row, "th") for row in [head] if row] + [line(row, "td") for row in rows]
    return f"<table>{''.join(f'<tr>{cells}</tr>' for cells in lines)}</table>"


def is_number(cell):
    return re.fullmatch(r"[-+]?[\d,]+(\.\d+)?|-", cell) is not None


def heading(words, mode=None):
    """The heading of one example, in the colour of its mode."""
    colour = COLOURS.get(mode, "#999999")
    return f'<h3 style="border-color: {colour}">{text(words)}</h3>'


def figure(data, caption, pixels=False):
    """A PNG file, bytes, with its caption. pixels: enlarge small ones, and smooth none."""
    width, height = struct.unpack(">II", data[16:24])  # of the header, which comes first
    times = max(1, WIDTH // width) if pixels else 1
    size = f'width="{width * times}" height="{height * times}"'
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    kind = ' class="pixels"' * pixels
    picture = f'<img{kind} {size} alt="{text(caption)}" src="{source}">'
    return f"<figure>{picture}<figcaption>{text(caption)}</figcaption></figure>"


def marked(chosen, rejected):
    """Both texts, in HTML, with the words of each marked that the other does not have there."""
    words = [list(re.finditer(r"\w+|[^\w\s]", said)) for said in (chosen, rejected)]
    matcher = SequenceMatcher(None, *([word[0] for word in side] for side in words), autojunk=False)
    differ = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    return (
        with_marks(chosen, words[0], [code[1:3] for code in differ], "ins"),
        with_marks(rejected, words[1], [code[3:5] for code in differ], "del"),
    )


def with_marks(said, words, runs, tag):
    """A text with some runs of its words in a tag. runs: (first word, word after the last) each."""
    parts, at = [], 0
    for first, end in runs:
        if first < end:
            start, stop = words[first].start(), words[end - 1].end()
            parts += [text(said[at:start]), f"<{tag}>{text(said[start:stop])}</{tag}>"]
            at = stop
    return "".join([*parts, text(said[at:])])


def page(title, sections):
    """The whole page. sections: {heading: HTML}."""
    names = {name: name.lower().replace(" ", "-") for name in sections}
    links = "".join(f'<a href="#{key}">{text(name)}</a>' for name, key in names.items())
    parts = [
        f'<section id="{names[name]}"><h2>{text(name)}</h2>\n{body}\n</section>'
        for name, body in sections.items()
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{text(title)}</h1>\n<nav>{links}</nav>\n{body}</body></html>\n"
    )
