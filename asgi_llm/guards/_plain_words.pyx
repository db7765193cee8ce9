"""Texts of plain words, in which no personal data and no secrets can be, told without rules."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from asgi_llm.guards._plain_stems import STEMS

__all__ = ["READS_WORDS", "is_plain_words"]

READS_WORDS = True

# What a character is: a letter has its place in the alphabet from 1 to 26.
cdef enum:
    OTHER = 0
    DIGIT = 27
    GAP = 28
    STOP = 29
    MARK = 30
    HYPHEN = 31
    COLON = 32
    MOST_STATES = 512
    LONGEST_RUN = 15
    MOST_CAPITALS = 8
    MOST_DIGITS = 5
    FOUND = 0xFFFF

cdef unsigned char _KINDS[256]
# An automaton of Aho and Corasick (1975) over the letters of a word: the state that follows; 0 is
# the start, and what ends a stem has no state.
cdef unsigned short _NEXT[MOST_STATES][27]


cdef int _build() except -1:
    cdef int letter
    kinds = [OTHER] * 256
    for letter in range(26):
        kinds[ord("a") + letter] = kinds[ord("A") + letter] = letter + 1
    for text, kind in (
        ("0123456789", DIGIT), (" \n", GAP), (".", STOP), (",;!?'\"()", MARK), ("-", HYPHEN),
        (":", COLON),
    ):
        for character in text:
            kinds[ord(character)] = kind
    for number in range(256):
        _KINDS[number] = kinds[number]
    trie = [{}]
    ends = set()
    for stem in STEMS:
        at = 0
        for character in stem:
            letter = ord(character) - ord("a") + 1
            if not 1 <= letter <= 26:
                raise ValueError(f"{stem!r} is not in small letters")
            if letter not in trie[at]:
                trie.append({})
                trie[at][letter] = len(trie) - 1
            at = trie[at][letter]
        ends.add(at)
    if len(trie) > MOST_STATES:
        raise ValueError("there are too many stems")
    # Breadth first, so that the state to fall back to is complete when it is asked.
    fallback = [0] * len(trie)
    waiting = [0]
    for at in waiting:
        if fallback[at] in ends:
            ends.add(at)
        for letter in range(1, 27):
            back = _NEXT[fallback[at]][letter] if at else 0
            after = trie[at].get(letter)
            if after is None:
                _NEXT[at][letter] = back
            else:
                _NEXT[at][letter] = after
                fallback[after] = back
                waiting.append(after)
    for at in range(len(trie)):
        for letter in range(1, 27):
            if _NEXT[at][letter] in ends:
                _NEXT[at][letter] = FOUND
    return 0


_build()


cdef bint _is_plain(const unsigned char* at, const unsigned char* end) noexcept nogil:
    cdef unsigned short state = 0
    cdef unsigned char kind, before = GAP
    cdef int run = 0, capitals = 0, digits = 0
    while at < end:
        kind = _KINDS[at[0]]
        if kind == OTHER:
            return False
        # The bit that tells small letters from capital ones.
        capitals = capitals + 1 if kind <= 26 and not at[0] & 32 else 0
        if capitals > MOST_CAPITALS:
            return False
        at += 1
        if kind <= 26:
            if before >= DIGIT and before != GAP and before != MARK:
                return False
            run += 1
            if run > LONGEST_RUN:
                return False
            state = _NEXT[state][kind]
            if state == FOUND:
                return False
        else:
            state = 0
            if kind == GAP:
                run = 0
            elif before == COLON or before == HYPHEN:
                return False
            elif kind == DIGIT:
                if before <= 26 or before == STOP:
                    return False
                run += 1
                digits += 1
                if digits > MOST_DIGITS or run > LONGEST_RUN:
                    return False
            elif kind == HYPHEN:
                run += 1
                if run > LONGEST_RUN:
                    return False
            else:
                run = 0
        before = kind
    return True


cpdef bint is_plain_words(bytes data) except -1:
    """Whether a text is ASCII letters, few digits, and punctuation where sentences have it."""
    cdef const unsigned char* at
    if data is None:
        raise TypeError("data must be bytes")
    at = <const unsigned char*>PyBytes_AS_STRING(data)
    return _is_plain(at, at + PyBytes_GET_SIZE(data))
