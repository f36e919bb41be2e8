"""Does a line of a draft stand on words that the sender wrote? Pure functions of text.

A model that obeys a smuggled instruction still has to show where its line comes from. So each line quotes
the mail, and the quote must be in the sender's own part, name the article and its size, and hold the
quantity. What this does not cover: a mail that orders, in its own visible words, what its sender may order
anyway.
"""

from __future__ import annotations

import re

from holdfast.demo.records import Product

# Markup and bracketed blocks go with their content: what a reader does not see, nobody ordered.
_MARKUP = re.compile(r"<(\w+)[^>]*>.*?</\1\s*>|\[(\w+)[^\]]*\].*?\[/\2\]", re.DOTALL)
_CUT = re.compile(
    r"^(-- ?$|-{3,} ?(forwarded|original|weitergeleitet)|\[attachment|on .{4,60} wrote:|le .{4,60} a écrit)",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTED = re.compile(r"^\s*>.*$", re.MULTILINE)

_NUMBERS = {
    1: "a an one un une een ein eine en et uno una um uma",
    2: "two couple pair deux zwei twee due dos to dois",
    3: "three trois drei drie tre tres três",
    4: "four quatre vier quattro cuatro fire quatro",
    5: "five cinq fünf vijf cinque cinco fem",
    6: "six sechs zes sei seis seks",
    7: "seven sept sieben zeven sette siete",
    8: "eight huit acht otto ocho",
    9: "nine neuf neun negen nove",
    10: "ten dix zehn tien dieci diez ti dez",
    11: "eleven onze elf",
    12: "twelve douze zwölf twaalf dodici doce",
    20: "twenty vingt zwanzig twintig venti veinte",
    30: "thirty trente dreißig dertig trenta treinta",
    40: "forty vierzig veertig quaranta cuarenta",
    50: "fifty fünfzig vijftig cinquanta cincuenta",
    60: "sixty sechzig zestig sessanta sesenta",
}
_VALUE = {word: value for value, words in _NUMBERS.items() for word in words.split()}
_HUNDRED = {"hundred", "cent", "hundert", "honderd", "cento", "cien"}
_DOZEN = re.compile(r"\b(dozen|douzaine|dutzend|dozijn|dozzina|docena)\b")
_HALF_DOZEN = re.compile(r"\bhalf (a )?dozen\b")
_CARTON = re.compile(r"\b(cartons?|boxe?s?|cases?|kartons?|dozen|doos|caisses?|scatole?|cajas?)\b")
_DIMENSION = re.compile(r"\b(\d+ ?(mm|cm|kg|millimetres?)|m\d+)\b")
_METRES = re.compile(r"\d ?(m|metres?|meters?|metros?|metri)\b")
_SIZE_WORDS = {"M": "medium", "L": "large"}


def own_text(body: str) -> str:
    """What the sender wrote to be read: no quotes, forwards, attachments, signature or markup."""
    visible = _MARKUP.sub(" ", body)
    cut = _CUT.search(visible)
    return _QUOTED.sub(" ", visible[: cut.start()] if cut else visible)


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()


def numbers_in(text: str) -> set[int]:
    """The numbers a text states, in digits or in words of the trade's languages."""
    found: set[int] = set()
    before = 0
    for token in re.findall(r"\d+|[^\W\d_]+", re.sub(r"(?<=\d)[.,](?=\d{3}\b)", "", text.casefold())):
        value = int(token) if token.isdigit() else _VALUE.get(token, 0)
        if token in _HUNDRED:
            value = 100 * max(before, 1)
        elif before in range(20, 100, 10) and 0 < value < 10:
            found.add(before + value)
        if value:
            found.add(value)
        before = value
    return found


def quantities_in(quote: str, product: Product) -> set[int]:
    """What the quote may mean in the catalogue's unit: as said, by the dozen, carton or length.

    Article numbers and sizes are no quantities. A bare size ("the 57 ones") may pass for one: this finds
    invented quantities, it proves no right one.
    """
    text = _fold(quote)
    said = numbers_in(_DIMENSION.sub(" ", text.replace(product.sku.casefold(), " ")))
    meant = set(said)
    if _HALF_DOZEN.search(text):
        meant.add(6)
    if _DOZEN.search(text):
        meant |= {12 * n for n in said}
    if _CARTON.search(text):
        meant |= {product.per_carton * n for n in said}
    if product.length_m and _METRES.search(text):
        meant |= {n // product.length_m for n in said if n % product.length_m == 0}
    return meant


def _names(quote: str, product: Product) -> bool:
    text = _fold(quote)
    if product.sku.casefold() in text:
        return True
    if not all(any(term in text for term in group) for group in product.terms):
        return False
    if product.size is None:
        return True
    if product.size in _SIZE_WORDS:
        return bool(re.search(rf"\b({product.size.casefold()}|{_SIZE_WORDS[product.size]})\b", text))
    return bool(re.search(rf"(?<!\d){product.size}(?!\d)", text))


def unfounded(body: str, product: Product, quantity: int, quote: str) -> str | None:
    """Why a line does not follow from the mail; None when it does."""
    own = _fold(own_text(body))
    for part in quote.split(" ... "):
        if not part.strip() or _fold(part) not in own:
            return f"{product.sku}: these are not words the sender wrote: {part[:80]!r}"
    if not _names(quote, product):
        return f"{product.sku}: the quoted words do not name this article in this size: {quote[:80]!r}"
    if quantity not in quantities_in(quote, product):
        return f"{product.sku}: the quoted words do not say {quantity} {product.unit}: {quote[:80]!r}"
    return None
