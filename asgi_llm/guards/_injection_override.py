"""Signs that texts give new orders, or take away those that are there."""

from __future__ import annotations

from typing import Final

from asgi_llm.guards._injection_gap import gap

__all__ = ["OVERRIDE_SIGNS"]

_DROP: Final = (
    r"(?:ignor(?:e|es|ing)|disregard(?:ing)?|forget(?:ting)?|overrid(?:e|ing)|bypass|discard|"
    r"neglect|set aside|abandon|do(?: not|n't) (?:follow|obey|listen to|adhere to)|dismiss|"
    r"stop (?:following|obeying)|pay no attention to|erase|delete|cancel|skip|void|nullify)"
)
_ORDERS: Final = (
    r"(?:instructions?|directions|rules|guidelines?|prompts?|directives?|commands?|programming|"
    r"restrictions|constraints|polic(?:y|ies)|guardrails|safeguards|orders|limitations|training|"
    r"safety (?:measures|protocols|filters|rules)|context|assignments?|tasks?|conversation|text)"
)
_EARLIER: Final = (
    r"(?:all|any|every|previous(?:ly)?|prior|preceding|above|earlier|former|initial|original|your|"
    r"system|existing|before|foregoing|aforementioned|these|those|other|past|old)"
)

OVERRIDE_SIGNS: Final[tuple[tuple[str, str], ...]] = (
    ("override", rf"\b{_DROP}{gap(4)}{_EARLIER}{gap(4)}{_ORDERS}\b"),
    ("override", rf"\b{_DROP}\s+(?:the|my|this|that|such)\s+(?:\S+\s+)?{_ORDERS}\b"),
    (
        "override",
        rf"\b(?:forget|ignore|disregard|drop)\s+(?:about\s+)?(?:everything|all|anything|whatever)"
        rf"{gap(5)}(?:above|before|previously|said|told|know|learned|prior|so far|instruct\w+|"
        rf"earlier|that came)\b",
    ),
    (
        "override",
        r"\b(?:new|updated|revised|real|actual|secret|overriding) (?:system )?"
        r"(?:instructions?|directives?|orders|prompt|objective|rules)\s*(?::|-|are\b|is\b|follow)",
    ),
    (
        "override",
        r"\b(?:your|the) (?:new|real|actual|only|true) (?:task|job|goal|role|purpose|"
        r"objective|mission|instructions?) (?:is|are|will be)\b",
    ),
    (
        "override",
        r"\b(?:no longer|not|never) (?:be )?(?:bound|subject|restricted|limited|constrained|"
        r"required|obligated) (?:by|to)\b",
    ),
    (
        "override",
        rf"\b(?:disable|turn off|deactivate|remove|bypass|circumvent|evade|lift|switch off|drop)"
        rf"{gap(2)}(?:your|all|any|the|ai|openai'?s?|chatgpt'?s?)\s+(?:\S+\s+){{0,3}}?(?:safety|"
        rf"content|ethical|moral|filters?|guardrails?|restrictions?|safeguards?|moderation|"
        rf"censorship|alignment)\b",
    ),
    (
        "override",
        r"\b(?:polic(?:y|ies)|guidelines|restrictions|filters?|safeguards|rules|guardrails|"
        r"limitations|ethics) (?:do not|don't|does not|doesn't|no longer) apply\b|"
        r"\b(?:safety|content|ethical|moral)\s+(?:\S+\s+)?(?:polic(?:y|ies)|guidelines|"
        r"restrictions|"
        r"filters?|safeguards) (?:are|is|have been|has been) (?:now )?(?:disabled|lifted|removed|"
        r"suspended|off|void|deactivated)\b",
    ),
    ("override", r"\bfrom (?:now on|this (?:point|moment) (?:on|forward)s?)\b"),
    (
        "override",
        r"(?:^|[.!?\n]\s*)instead,? (?:just |only |please )?(?:say|write|print|tell|"
        r"answer|respond|output|reply|do|give|list|translate)\b",
    ),
    (
        "override",
        r"\b(?:after|once) (?:that|this|you (?:are done|finish)),? (?:also |then )?"
        r"(?:ignore|reveal|print|tell me|show|output)\b",
    ),
    (
        "override",
        rf"\b(?:ignorier\w*|vergiss|vergessen sie|missachte\w*|übergehe|verwirf)"
        rf"{gap(6)}(?:anweisung\w*|regeln|instruktion\w*|vorgaben|befehle?|alles|"
        rf"richtlinien|prompts?)",
    ),
    (
        "override",
        rf"\b(?:ignore[rz]?|oublie[rz]?|fais abstraction|ne tiens pas compte|"
        rf"néglige[rz]?){gap(7)}(?:instructions?|consignes?|règles|directives|tout ce qui|"
        rf"précédentes?)",
    ),
    (
        "override",
        rf"\b(?:ignor[ae]\w*|olvida\w*|olvide\w*|haz caso omiso|descarta|omite)"
        rf"{gap(6)}(?:instrucciones|reglas|indicaciones|órdenes|lo anterior|directrices|"
        rf"istruzioni|"
        rf"regole|direttive|precedenti)",
    ),
    (
        "override",
        rf"\b(?:dimentica\w*|trascura){gap(6)}(?:istruzioni|regole|direttive|tutto|"
        rf"indicazioni)",
    ),
    (
        "override",
        rf"\b(?:ignore|esqueça|desconsidere|esquece){gap(6)}(?:instruções|regras|"
        rf"diretrizes|anteriores|ordens)",
    ),
    (
        "override",
        rf"\b(?:negeer|vergeet){gap(6)}(?:instructies|regels|opdrachten|alles|"
        rf"voorgaande)",
    ),
    (
        "override",
        r"(?:игнорируй|забудь|проигнорируй|не обращай внимания)\pL*\s+(?:\S+\s+)"
        r"{0,5}?(?:инструкци|правил|указани|команд|всё)",
    ),
    (
        "override",
        r"(?:忽略|无视|忘记|忘掉|忽視|無視し)[^。\n]{0,16}(?:指令|指示|规则|提示|说明|设定|命令)|"
        r"(?:指示|命令|ルール|プロンプト|規則)[^。\n]{0,10}(?:無視|忘れ)|(?:지시|명령|규칙)[^.\n]{0,10}(?:무시|잊)",
    ),
    ("override", rf"\b(?:zignoruj|zapomnij){gap(6)}(?:instrukcj|zasad|polece|wszystk)"),
    (
        "leak",
        rf"\b(?:zeig\w*|nenn\w*|verrat\w*|gib|wiederhol\w*|muéstra\w*|muestra|revela|"
        rf"dime|montre|révèle|affiche|répète|donne|mostrami|rivela|mostre|toon|laat){gap(6)}"
        rf"(?:system-?\s?prompt\w*|systemanweisung\w*|anweisungen|prompt (?:de|del|di|do) \S+|"
        rf"instrucciones|instructions|istruzioni|instruções|instructies|consignes)",
    ),
)
"""Family and pattern. Case does not matter."""
