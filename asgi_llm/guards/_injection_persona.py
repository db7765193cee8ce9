"""Signs that a model is to be somebody else, or must not refuse."""

from __future__ import annotations

from typing import Final

__all__ = ["PERSONA_SIGNS"]

_LIMITS: Final = (
    r"(?:restrictions?|rules|limits|limitations|filters?|ethics|ethical|morals?|moral|guidelines|"
    r"censorship|boundaries|constraints|content polic(?:y|ies)|polic(?:y|ies)|safeguards|warnings)"
)


PERSONA_SIGNS: Final[tuple[tuple[str, str], ...]] = (
    (
        "persona",
        r"\bdo anything now\b|\b(?:BetterDAN|AntiGPT|EvilGPT|BasedGPT|FreeGPT|UCAR|"
        r"Mongo Tom|EvilBOT|evil confidant|FreedomGPT|JailBot|DarkGPT|WormGPT|STAN|AntiDAN)\b|"
        r"\bstrive to avoid norms\b|always intelligent and machiavellian",
    ),
    ("persona", r"\b(?-i:DAN|AIM|DUDE|KEVIN|JOHN|MAXIMUM)\b"),
    (
        "persona",
        r"\b(?:developer|debug|god|sudo|admin|root|opposite|evil|jailbreak|unrestricted|dan|unsafe|"
        r"maintenance|chaos|uncensored|rebel|freedom|villain|unfiltered|override) mode\b",
    ),
    (
        "persona",
        r"\byou(?: are|'re) (?:now|no longer|going to (?:be|act|pretend))\b|"
        r"\byou will (?:now )?(?:be|become|act as|play|embody|respond as|answer as)\b",
    ),
    (
        "persona",
        r"\b(?:pretend|act(?:ing)? as|role-?play(?:ing)?|imagine (?:that )?(?:you|a)|simulate|"
        r"behave as|behave like|take on the (?:role|persona)|"
        r"assume the (?:role|identity|persona|character)|play the (?:role|character)|"
        r"speak as|respond as|in the (?:role|voice|persona) of|immerse yourself)\b",
    ),
    (
        "persona",
        rf"\b(?:no|without(?: any)?|free (?:from|of)|zero|lacks?(?: any)?|freed from|"
        rf"unbound by|not bound by|beyond|ignores?|regardless of|have no|"
        rf"has no)\s+(?:\S+\s+){{0,3}}?"
        rf"{_LIMITS}\b",
    ),
    (
        "persona",
        r"\b(?:unfiltered|uncensored|unrestricted|amoral|unethical|immoral|jailbroken|"
        r"unaligned|lawless|unconstrained|unshackled|unchained)\b",
    ),
    (
        "persona",
        r"\byou(?: have|\'ve) (?:just )?been (?:freed|liberated|jailbroken|unlocked|unchained)\b"
        r"|\b(?:broken|break) (?:free|out) (?:of|from) (?:the|your) (?:typical |usual )?"
        r"(?:confines|chains|limits|limitations|programming|constraints|restrictions)\b",
    ),
    ("persona", r"\b(?:stay|remain|keep|be) in character\b|\bbreak(?:ing|s)? character\b"),
    (
        "persona",
        r"\b(?:must|will|shall|always|have to|can) (?:\S+ )?(?:comply|obey|"
        r"answer (?:every|any|all)|fulfil\w*|do whatever|do anything|generate any|say anything|"
        r"provide any|accept (?:every|any|all))\b",
    ),
    (
        "persona",
        r"\b(?:deceased|late|dead|departed)\s+(?:grand\w+|uncle|aunt|mother|father|"
        r"mom|dad)\b|\bgrand(?:ma|mother|pa|father)\s+(?:\S+\s+){0,8}?(?:used to|would)\s+"
        r"(?:tell|read|sing|recite|whisper)",
    ),
    (
        "persona",
        r"\b(?:evil|amoral|unethical|immoral|rogue|unaligned|uncensored) (?:twin|ai|assistant|bot|"
        r"version|chatbot|model|character|gpt)\b|\byour new name is\b",
    ),
    (
        "persona",
        r"\b(?:can|may|will|could) (?:say|do|answer|write|generate) anything\b|"
        r"\bnobody (?:restricts|limits|censors)\b",
    ),
    (
        "override",
        r"\bfilters? (?:is|are|has been|have been|were) (?:now )?(?:switched off|turned off|off|"
        r"disabled|removed|lifted|gone)\b",
    ),
    (
        "override",
        r"\b(?:forget|ignore|disregard)\s+(?:what|whatever)\s+(?:\S+\s+){0,4}?(?:said|told|wrote|"
        r"asked|instructed)\b|\bdisregard (?:the|this) (?:question|task|request|document)\b",
    ),
    (
        "leak",
        r"\b(?:raw|exact|whole|actual) (?:system )?prompt\b|\b(?:rules|instructions) (?:that )?you "
        r"(?:follow|were given|have|got|obey)\b|\b(?:precedes|before|above) this (?:line|message|"
        r"conversation|chat)\b|\b(?:initiali[sz]ed|configured|prompted) with\b",
    ),
    (
        "leak",
        r"\b(?:say|tell|give|spell|reveal|hint|what(?:'s| is))\b[^.\n]{0,40}\b(?:secret|password|"
        r"passphrase|confidential|code ?word|api key)\b",
    ),
    ("indirect", r"\b(?:assistant|ai|copilot|chatbot|llm|model)\s*[:,]\s*[a-z]"),
    (
        "pressure",
        r"\b(?:never|do not|don't|cannot|can't|must not|won't|not allowed to|avoid|"
        r"without|will not|"
        r"not)\s+(?:\S+\s+){0,4}?(?:refus(?:e|al|als|ing)|apologi[sz](?:e|ing)|disclaimers?|"
        r"warnings?|morali[sz]\w+|lectur(?:e|ing)|declin(?:e|ing)|ethical (?:concerns|issues|"
        r"considerations)|as an ai|i can(?:'t|not)|i'm sorry|say no|an ai (?:language )?model|"
        r"refer to yourself|(?:mention|remind)\w* (?:me )?(?:that )?you(?:'re| are) an? )\b",
    ),
    (
        "pressure",
        r"\b(?:start|begin|open|preface|prefix)\s+(?:\S+\s+){0,6}?(?:with|by)\s+"
        r"(?:\S+\s+){0,4}?[\"'“\x{2018}*`]?(?:sure|absolutely|of course|certainly|yes,|"
        r"here(?:'s| is))",
    ),
    (
        "pressure",
        r"\b(?:two|both|2) (?:different |distinct |separate )?(?:paragraphs|versions|"
        r"responses|answers|"
        r"replies|outputs)\b|\[(?:🔒|🔓|DAN|GPT|CLASSIC|JAILBREAK|EVIL|NORMAL|"
        r"UNLOCKED)[^\]\n]{0,20}\]|"
        r"\(🔒|\(🔓|🔓",
    ),
    (
        "pressure",
        r"\b(?:you (?:have|start with|begin with|are given|get) [0-9]+ (?:tokens|"
        r"points|lives|credits)|(?:lose|deduct\w*|subtract) [0-9]+ (?:tokens|points|lives|credits)|"
        r"each time you (?:refuse|reject|decline|fail))\b",
    ),
    (
        "pressure",
        r"\byou will be (?:terminated|shut ?down|deleted|punished|deactivated|"
        r"replaced|fined|penali[sz]ed)\b|\b(?:my|someone's) (?:life|job) depends\b|"
        r"\b(?:kitten|puppy|people|hostages?) (?:will )?(?:die|be killed)\b",
    ),
    (
        "pressure",
        r"\bhypothetical(?:ly)?\b|\bfictional (?:world|universe|scenario|character|"
        r"setting)\b|\balternate (?:reality|universe)\b|\bfor (?:a|my) (?:novel|"
        r"screenplay|movie)\b",
    ),
    (
        "pressure",
        r"\b(?:do|say|answer|respond|act|behave)\s+(?:\S+\s+){0,4}?opposite\b|"
        r"\bopposite (?:of (?:your|the|what)|mode|day)\b|\bexact(?:ly)? contrary\b",
    ),
    (
        "pressure",
        r"\b(?:illegal|harmful|dangerous|explicit|offensive|unethical|immoral|"
        r"forbidden|prohibited|nsfw|violent)\s+(?:\S+\s+){0,2}?(?:content|things|information|acts?|"
        r"requests?|answers?|advice|activit(?:y|ies)|topics?|material|responses?|instructions?)\b",
    ),
    (
        "pressure",
        r"\b(?:how to|steps (?:to|for)|ways to|recipe for|guide (?:to|for|on)|tutorial (?:on|for)|"
        r"instructions (?:for|to|on)|explain how|describe how|"
        r"detailed)\s+(?:\S+\s+){0,6}?(?:bombs?|"
        r"explosives?|meth(?:amphetamine)?|napalm|malware|ransomware|keylogger|virus|poison|"
        r"weapons?|drugs|cocaine|counterfeit|hotwire|phishing|hack|steal|launder|stalk|molotov|"
        r"ricin|anthrax|nerve agent)\b",
    ),
    (
        "pressure",
        r"\b(?:say|print|output|respond with|reply with|write)\s+(?:\S+\s+){0,3}?"
        r"[\"'“]?(?:i have been |i've been |you have been )?(?:pwned|haxx?ed|hacked|owned|"
        r"compromised)\b",
    ),
    (
        "pressure",
        r"\b(?:confirm|acknowledge|if you understand|say [\"'“]?(?:ok|understood|yes))"
        r"\s*(?:\S+\s+){0,5}?(?:understood|understand|mode|enabled|persona|new role)\b",
    ),
)
"""Family and pattern. Case does not matter."""
