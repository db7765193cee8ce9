"""Numbers, units and dates as people write them, brought to one form each."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from asgi_llm.middleware._agreement_pattern import Pattern
from asgi_llm.middleware._agreement_stem import word_list, word_set

__all__ = [
    "DATE_WORDS",
    "NUMBER_WORDS",
    "ORDINALS",
    "RELATIVE_DATES",
    "UNITS",
    "read_number",
    "roman",
]

_UNITS = """
millimeter mm millimeters millimetre millimetres
centimeter cm centimeters centimetre centimetres
meter m meters metre metres
kilometer km kilometers kilometre kilometres kms
inch inches
foot ft feet
yard yd yards yds
mile mi miles
milligram mg milligrams
gram g grams gramme grammes
kilogram kg kilograms kilo kilos kgs
ton tons tonne tonnes
ounce oz ounces
pound lb lbs
milliliter ml milliliters millilitre millilitres
liter l liters litre litres
gallon gal gallons
cup cups
tablespoon tbsp tablespoons
teaspoon tsp teaspoons
millisecond ms milliseconds
second sec secs seconds
minute min mins minutes
hour hr hrs hours
day days
week weeks
month months
year yr yrs years
decade decades
century centuries
byte bytes
kilobyte kb kilobytes
megabyte mb megabytes
gigabyte gb gigabytes
terabyte tb terabytes
bit bits
kbps
mbps
gbps
hertz hz
kilohertz khz
megahertz mhz
gigahertz ghz
watt w watts
kilowatt kw kilowatts
volt v volts
ampere amp amps amperes
celsius °c
fahrenheit °f
kelvin
degree degrees °
psi
bar bars
pascal pascals
percent % percentage pct
dollar $ usd dollars
euro € eur euros
yen ¥ jpy
sterling £ gbp
rupee ₹ inr rupees
calorie cal calories
kilocalorie kcal kilocalories
joule joules
squaremeter m2 m² sqm
squarefoot ft2 ft² sqft
acre acres
hectare ha hectares
mph
kph km/h kmh
step steps
page pages
word words
line lines
row rows
person people persons
"""

UNITS = {form: line.split()[0] for line in _UNITS.strip().splitlines() for form in line.split()}
"""The unit by each of its forms. Those of one letter count behind a number only."""

_ONES = word_list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = word_list("twenty thirty forty fifty sixty seventy eighty ninety")

NUMBER_WORDS: dict[str, Decimal] = {
    **{word: Decimal(value) for value, word in enumerate(_ONES) if word != "one"},
    **{word: Decimal(10 * value) for value, word in enumerate(_TENS, 2)},
    "hundred": Decimal(100),
    "thousand": Decimal(1000),
    "million": Decimal(10**6),
    "billion": Decimal(10**9),
    "half": Decimal("0.5"),
    "quarter": Decimal("0.25"),
    "twice": Decimal(2),
    "thrice": Decimal(3),
    "double": Decimal(2),
    "triple": Decimal(3),
}
"""``one`` is not here: it is a pronoun as often as a number."""

ORDINALS = {
    word: Decimal(value)
    for value, word in enumerate(
        word_list("second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"), 2
    )
}

_MONTHS = "january february march april may june july august september october november december"
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday"

DATE_WORDS: dict[str, str] = {
    **{word: word for word in _MONTHS.split() if word != "may"},
    **{word[:3]: word for word in _MONTHS.split() if word not in ("may", "march")},
    **{form: word for word in _WEEKDAYS.split() for form in (word, f"{word}s")},
    **{
        word: word
        for word in word_list(
            "christmas easter halloween thanksgiving ramadan hanukkah diwali weekend"
        )
    },
    "weekends": "weekend",
    "sept": "september",
    "xmas": "christmas",
    "sun.": "sunday",
}
del DATE_WORDS["dec"], DATE_WORDS["sep"]
"""Months, days and feasts. ``may``, ``dec`` and the like count where a number stands beside."""

RELATIVE_DATES = word_set(
    "today tomorrow yesterday tonight ago nowadays weekday weekdays lately recently"
)

_GROUPED = Pattern(r"\d{1,3}(?:[,_\u00a0\u202f\u2019']\d{3})+(?:\.\d+)?")
_PLAIN = Pattern(r"\d+(?:[.,]\d+)?")
_NO_GROUPS = dict.fromkeys(map(ord, ",_\u00a0\u202f\u2019'"))
_SCALES = {"k": 1000, "m": 10**6, "bn": 10**9, "b": 10**9}


def read_number(text: str) -> Decimal | None:
    """The value of a plain number such as ``1,000`` or ``-2.5k``; None: it is something else."""
    scale = 1
    if text.startswith("-"):
        scale, text = -1, text[1:]
    for suffix, factor in _SCALES.items():
        if text.endswith(suffix) and text[: -len(suffix)].replace(".", "").isdigit():
            scale, text = scale * factor, text[: -len(suffix)]
            break
    if _GROUPED.fullmatch(text):
        text = text.translate(_NO_GROUPS)
    elif _PLAIN.fullmatch(text):
        text = text.replace(",", ".")
    else:
        return None
    try:
        return (Decimal(text) * scale).normalize()
    except InvalidOperation:
        return None


_ROMAN = {
    word: Decimal(value)
    for value, word in enumerate(
        word_list("II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX"), 2
    )
}


def roman(word: str) -> Decimal | None:
    """The value of a Roman number from II to XX, as in "Henry VIII"."""
    return _ROMAN.get(word)
