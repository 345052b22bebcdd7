r"""Text from outside, made safe to print.

A card's text is hostile: it may hold control characters (terminal escapes, a carriage return
that overwrites a verdict), bidirectional overrides, invisible characters, or line separators.
`safe` is the only way such text reaches a terminal or a message.
"""

import re

DEFAULT_LIMIT = 200
ELLIPSIS = "..."

# Every category whose characters move the cursor, reorder text or draw nothing: control, format
# (bidi, zero width, tags), surrogate, private use, unassigned, line and paragraph separators.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Drawn as nothing or as a blank, though their categories are those of letters and marks:
# from Unicode's Default_Ignorable_Code_Point, and the blank braille pattern.
_INVISIBLE = (
    frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0})
    | frozenset(range(0x180B, 0x1810))
    | frozenset(range(0xFE00, 0xFE10))
)
_VARIATION_SELECTORS_SUPPLEMENT = range(0xE0100, 0xE01F0)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,99}", re.ASCII)
# Letters and digits of scripts that run from right to left: they reorder the digits beside them.
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
# More marks than this on one letter climb over the lines above it.
_MAX_STACKED_MARKS = 4


def safe(text: str, *, limit: int = DEFAULT_LIMIT) -> str:
    r"""Return one printable line of at most `limit` characters for any `text`.

    Characters that are not drawn or that reorder others are written as escapes (`\x1b`, `\u202e`,
    `\u05d0`), and so is a space beside another one, which could imitate a column. A backslash is
    doubled so that an escape cannot be imitated, and a longer text ends in `...`.
    """
    head = text[: limit + 1]
    if not (head.isascii() and head.isprintable() and "\\" not in head):
        head = _escaped(head.replace("\\", "\\\\"))
    head = head.replace("  ", r" \x20")
    return head if len(head) <= limit else head[: limit - len(ELLIPSIS)] + ELLIPSIS


def quoted(text: str, *, limit: int = DEFAULT_LIMIT) -> str:
    """Return `text` safe and in quotation marks, which it cannot close itself."""
    return '"' + safe(text, limit=limit).replace('"', r"\x22") + '"'


def word(text: str) -> str:
    """Return a plain name as it is, and any other text quoted."""
    return text if _WORD.fullmatch(text) else quoted(text)


def safe_message(text: str) -> str:
    """Return our own message, which may quote outside text, with what is not drawn escaped.

    Unlike `safe` it keeps line feeds and lone backslashes, and cuts nothing.
    """
    return "\n".join(_escaped(line) for line in text.split("\n"))


def _escaped(text: str) -> str:
    import unicodedata

    pieces = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category.startswith("M") else 0
        hidden = category in _HIDDEN_CATEGORIES or (category == "Zs" and character != " ")
        hidden = hidden or unicodedata.bidirectional(character) in _RIGHT_TO_LEFT
        if hidden or marks > _MAX_STACKED_MARKS or _is_invisible(ord(character)):
            pieces.append(_escape(ord(character)))
        else:
            pieces.append(character)
    return "".join(pieces)


def _is_invisible(code: int) -> bool:
    return code in _INVISIBLE or code in _VARIATION_SELECTORS_SUPPLEMENT


def _escape(code: int) -> str:
    if code <= 0xFF:  # noqa: PLR2004 - the widest code that two digits hold
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
