"""The stem of an English word: enough for one verb's or noun's forms to meet, and no more."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["stem", "word_list", "word_set"]


def word_list(text: str) -> list[str]:
    """The words of a table."""
    return text.split()


def word_set(text: str) -> frozenset[str]:
    """The words of a table, in no order."""
    return frozenset(text.split())


_IRREGULAR_FORMS = """
begin began begun
bite bit bitten
blow blew blown
break broke broken
bring brought
build built
burn burnt
buy bought
catch caught
choose chose chosen
come came
cut cutting
dig dug
draw drew drawn
drink drank drunk
drive drove driven driving
eat ate eaten
fall fell fallen
feed fed
feel felt
fight fought
find found
fly flew flown flying
forget forgot forgotten
freeze froze frozen
get got gotten getting
give gave given giving
go went gone goes going
grow grew grown
hear heard
hide hid hidden
hold held
keep kept
know knew known
lay laid
lead led
leave leaving
lend lent
lie lying lies
light lit
lose lost losing
make made making
mean meant
meet met
pay paid
put putting
read reading
ride rode ridden
ring rang rung
rise rose risen rising
run ran running
say said
see saw seen
sell sold
send sent
set
sew sewn
shake shook shaken
shine shone
shoot shot
show shown
shrink shrank shrunk
sing sang sung
sink sank sunk
sit sat
sleep slept
speak spoke spoken
spend spent
spread spreading
stand stood
steal stole stolen
stick stuck
swim swam swum swimming
take took taken taking
teach taught
tear torn
tell told
think thought
throw threw thrown
understand understood
wake woke woken
wear wore worn
win won winning
write wrote written writing
child children
foot feet
goose geese
half halves
knife knives
leaf
life lives
man men
mouse mice
person people persons
tooth teeth
wife wives
woman women
woman womens
datum data
index indices indexes
matrix matrices
vertex vertices
analysis analyses
die dies died dying
tie ties tied tying
use used using uses
bus buses
expire expired expiring expiry
renew renewal
noise noisy
spice spicy
"""

_IRREGULAR = {
    form: words[0]
    for words in (line.split() for line in _IRREGULAR_FORMS.strip().splitlines())
    for form in words[1:]
}

_SPELLINGS = {
    "tyre": "tire",
    "grey": "gray",
    "cheque": "check",
    "licence": "license",
    "practise": "practice",
    "defence": "defense",
    "offence": "offense",
    "programme": "program",
    "dialogue": "dialog",
    "catalogue": "catalog",
    "analogue": "analog",
    "plough": "plow",
    "sceptical": "skeptical",
    "aluminium": "aluminum",
    "mould": "mold",
    "pyjamas": "pajamas",
    "jewellery": "jewelry",
    "kerb": "curb",
    "storey": "story",
    "draught": "draft",
    "enrol": "enroll",
    "fulfil": "fulfill",
    "behaviour": "behavior",
    "summarise": "summarize",
}

_KEEPS_ITS_S = ("ss", "us", "is", "ics", "ous", "news")
_WHOLE = word_set(
    "https dns css ios aws gas sms gps vps tls jobs always perhaps sometimes redis postgres "
    "daily weekly monthly yearly hourly quarterly"
)
"""Words whose last letter is no ending."""

_VOWELS = frozenset("aeiouy")


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """The stem of ``word``, which is in lower case.

    Stems are for comparing only: they need not be words. What is not made of ASCII letters stays
    as it is.
    """
    if not (word.isascii() and word.isalpha()):
        return word
    if word in _IRREGULAR:
        return _american(_IRREGULAR[word])
    if len(word) < 4 or word in _WHOLE:
        return word
    word = _SPELLINGS.get(word, word)
    if word.endswith("s") and not word.endswith(_KEEPS_ITS_S):
        word = _singular(word)
        if word in _IRREGULAR:
            return _american(_IRREGULAR[word])
        word = _SPELLINGS.get(word, word)
    if word.endswith("ing") and _has_vowel(word[:-3]):
        word = _undouble(word[:-3])
    elif word.endswith("ied"):
        word = word[:-3] + "y"
    elif word.endswith("ed") and not word.endswith("eed") and _has_vowel(word[:-2]):
        word = _undouble(word[:-2])
    elif word.endswith("ly") and len(word) > 5:
        word = word[:-2]
        if word.endswith("i"):
            word = word[:-1] + "y"
    return _american(word)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes", "oes")):
        return word[:-2]
    return word[:-1]


def _has_vowel(text: str) -> bool:
    return len(text) > 2 and not _VOWELS.isdisjoint(text)


def _undouble(word: str) -> str:
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeioulsz":
        return word[:-1]
    if word.endswith("ll") and word[:-1] in ("cancel", "travel", "label", "model", "signal"):
        return word[:-1]
    return word


def _american(word: str) -> str:
    if word.endswith("our") and len(word) > 5:
        word = word[:-3] + "or"
    elif word.endswith(("metre", "litre", "centre", "theatre", "fibre")):
        word = word[:-2] + "er"
    elif word.endswith("ise") and len(word) > 6:
        word = word[:-3] + "ize"
    elif word.endswith("is") and len(word) > 7:
        word = word[:-2] + "iz"
    # The e that "ing" and "ed" have taken with them is taken off everywhere.
    return word[:-1] if word.endswith("e") and len(word) > 3 else word
