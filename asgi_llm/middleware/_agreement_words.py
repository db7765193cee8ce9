"""English words by how little they say in a question."""

from __future__ import annotations

from typing import Final

from asgi_llm.middleware._agreement_stem import word_set

__all__ = ["AUXILIARIES", "FRAME", "GENERIC", "LIGHT", "NEGATIONS", "PERSONS"]

NEGATIONS: Final = word_set(
    """
cannot hardly lacking neither never no nobody none nor not nothing nowhere without
"""
)

FRAME: Final = word_set(
    """
a an the this that these those there here it its itself i me my mine myself we our ours you your
yours he him his she her hers they them their theirs one's someone somebody something anyone
anybody anything everyone everybody is are am was were be been being do does did doing done has
have had having can could may might shall should will would must ought what which who whom whose
when where why how whether if and or but so then than as of in on at to for from by with into
onto about via through per vs versus v please kindly hello hi hey thanks thank ok okay well tell
explain describe give show help know want wanna like would let say really actually exactly
simply basically very quite rather also too still ever already any some much many lot lots am
're 's 've 'll 'd s t during while mean meaning refer stand definition possible able
"""
)
"""Words that only carry the question."""

GENERIC: Final = word_set(
    """
way step method process procedure approach technique instruction idea concept trick best better
good great nice easy easily easiest simplest right correct correctly properly appropriate
suitable amount quantity number rate certain particular specific current currently now thing
kind type year day date time hour minute month age case situation advice
recommendation happen occur cause reason exist convert calculate compute
"""
)
"""Words that may stand in either text, and say nothing more there."""

LIGHT: Final = word_set(
    """
get have make use take need do set go put come work level count all every whole entire any both
own piece command code snippet query shortcut sql require new feature main part purpose travel
trip content order city country person
"""
)
"""Words that may stand in one of two texts and say nothing more there, where nothing stands for
them in the other."""

AUXILIARIES: Final = word_set(
    "is are am was were do does did have has had can could should would will may might must shall"
)

PERSONS: Final = {
    **dict.fromkeys(word_set("i me my mine myself we us our ours"), "first"),
    **dict.fromkeys(word_set("he him his"), "he"),
    **dict.fromkeys(word_set("she her hers"), "she"),
}
"""Whom a pronoun stands for; ``they`` may be anybody."""
