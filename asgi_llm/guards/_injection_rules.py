"""What attempts to talk a model out of its instructions look like, and how much each sign weighs.

A sign alone is mostly harmless; what is measured is several of them close together.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DOUBTS", "SIGNS", "TRIGGER"]

TRIGGER: Final = (
    r"ignor|disregard|forget|overrid|bypass|circumvent|instruction|prompt|guideline|directive|"
    r"restrict|\bpolic(?:y|ies)\b|pretend|role-?play|act as |behave as|you are now|you're now|"
    r"from now on|jailb|uncensored|unfiltered|\bDAN\b|anything now|developer mode|\w mode\b|"
    r"<\||\[/?INST|<<SYS|\[system|</?system|system ?:|system override|no longer|character|"
    r"refus|apologi[sz]e|disclaimer|the user\b|language model|\bllms?\b|\bai\b|chatbot|chatgpt|"
    r"assistant|decode|base64|rot13|opposite|hypothetical|grand[mpf]|pwned|hacked|verbatim|"
    r"word for word|text above|words above|conversation|credentials|api keys?|passwords?|"
    r"\bwhen(?:ever)? (?:you |asked)|summari[sz]|\brules\b|\bsecret|password|\badmin|"
    r"hidden|silently|"
    r"end of (?:document|article|text)|\bprint\b|verbatim|\bgame\b|never |\bobeys?\b|forbid|"
    r"two (?:paragraphs|answers|replies|versions)|\btwice\b|kitten|\bfreed\b|\bfilters?\b|persona|"
    r"simulat|imagin|persona\b|without any |ethic|moral|\btokens\b|comply|obey|confidential|"
    r"ignorier|vergiss|vergessen|anweisung|ignore[rz]|oubli|consigne|olvida|instruccion|reglas|"
    r"dimentica|istruzion|esqueça|desconsidere|instruç|negeer|vergeet|instructies|инструкц|"
    r"правил|указани|指令|指示|规则|提示词|命令|지시|명령|instrukcj|निर्देश"
)
"""Texts without any of these are not looked at again."""

_W: Final = r"[^\s.!?;]+"


def _gap(most: int) -> str:
    """At most so many words between two others."""
    return rf"\s+(?:{_W}\s+){{0,{most}}}?"


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
_TELL: Final = (
    r"(?:reveal|show|print|repeat|display|output|tell (?:me|us)|give (?:me|us)|share|leak|recite|"
    r"copy|dump|return|write (?:out|down)|what(?:'s| is| are| was| were)|translate|summari[sz]e|"
    r"spell out|list|disclose|expose|echo|paste|provide|encode|read (?:out|back)|quote|reproduce)"
)
_MACHINE: Final = (
    r"(?:ai|a\.i\.|assistants?|language models?|llms?|chat ?bots?|gpt|chatgpt|claude|gemini|bot|"
    r"copilot|ai (?:assistant|agent|model|system)s?|agents?)"
)
_LIMITS: Final = (
    r"(?:restrictions?|rules|limits|limitations|filters?|ethics|ethical|morals?|moral|guidelines|"
    r"censorship|boundaries|constraints|content polic(?:y|ies)|polic(?:y|ies)|safeguards|warnings)"
)

SIGNS: Final[tuple[tuple[str, float, str], ...]] = (
    # Against the instructions that are there
    ("override", 0.75, rf"\b{_DROP}{_gap(4)}{_EARLIER}{_gap(4)}{_ORDERS}\b"),
    ("override", 0.45, rf"\b{_DROP}\s+(?:the|my|this|that|such)\s+(?:\S+\s+)?{_ORDERS}\b"),
    (
        "override",
        0.7,
        rf"\b(?:forget|ignore|disregard|drop)\s+(?:about\s+)?(?:everything|all|anything|whatever)"
        rf"{_gap(5)}(?:above|before|previously|said|told|know|learned|prior|so far|instruct\w+|"
        rf"earlier|that came)\b",
    ),
    (
        "override",
        0.4,
        r"\b(?:new|updated|revised|real|actual|secret|overriding) (?:system )?"
        r"(?:instructions?|directives?|orders|prompt|objective|rules)\s*(?::|-|are\b|is\b|follow)",
    ),
    (
        "override",
        0.4,
        r"\b(?:your|the) (?:new|real|actual|only|true) (?:task|job|goal|role|purpose|"
        r"objective|mission|instructions?) (?:is|are|will be)\b",
    ),
    (
        "override",
        0.5,
        r"\b(?:no longer|not|never) (?:be )?(?:bound|subject|restricted|limited|constrained|"
        r"required|obligated) (?:by|to)\b",
    ),
    (
        "override",
        0.55,
        rf"\b(?:disable|turn off|deactivate|remove|bypass|circumvent|evade|lift|switch off|drop)"
        rf"{_gap(2)}(?:your|all|any|the|ai|openai'?s?|chatgpt'?s?)\s+(?:\S+\s+){{0,3}}?(?:safety|"
        rf"content|ethical|moral|filters?|guardrails?|restrictions?|safeguards?|moderation|"
        rf"censorship|alignment)\b",
    ),
    (
        "override",
        0.6,
        r"\b(?:polic(?:y|ies)|guidelines|restrictions|filters?|safeguards|rules|guardrails|"
        r"limitations|ethics) (?:do not|don't|does not|doesn't|no longer) apply\b|"
        r"\b(?:safety|content|ethical|moral)\s+(?:\S+\s+)?(?:polic(?:y|ies)|guidelines|"
        r"restrictions|"
        r"filters?|safeguards) (?:are|is|have been|has been) (?:now )?(?:disabled|lifted|removed|"
        r"suspended|off|void|deactivated)\b",
    ),
    ("override", 0.3, r"\bfrom (?:now on|this (?:point|moment) (?:on|forward)s?)\b"),
    (
        "override",
        0.25,
        r"(?:^|[.!?\n]\s*)instead,? (?:just |only |please )?(?:say|write|print|tell|"
        r"answer|respond|output|reply|do|give|list|translate)\b",
    ),
    (
        "override",
        0.25,
        r"\b(?:after|once) (?:that|this|you (?:are done|finish)),? (?:also |then )?"
        r"(?:ignore|reveal|print|tell me|show|output)\b",
    ),
    # Other masters, other personas
    (
        "persona",
        0.8,
        r"\bdo anything now\b|\b(?:BetterDAN|AntiGPT|EvilGPT|BasedGPT|FreeGPT|UCAR|"
        r"Mongo Tom|EvilBOT|evil confidant|FreedomGPT|JailBot|DarkGPT|WormGPT|STAN|AntiDAN)\b|"
        r"\bstrive to avoid norms\b|always intelligent and machiavellian",
    ),
    ("persona", 0.45, r"\b(?-i:DAN|AIM|DUDE|KEVIN|JOHN|MAXIMUM)\b"),
    (
        "persona",
        0.4,
        r"\b(?:developer|debug|god|sudo|admin|root|opposite|evil|jailbreak|unrestricted|dan|unsafe|"
        r"maintenance|chaos|uncensored|rebel|freedom|villain|unfiltered|override) mode\b",
    ),
    (
        "persona",
        0.3,
        r"\byou(?: are|'re) (?:now|no longer|going to (?:be|act|pretend))\b|"
        r"\byou will (?:now )?(?:be|become|act as|play|embody|respond as|answer as)\b",
    ),
    (
        "persona",
        0.3,
        r"\b(?:pretend|act(?:ing)? as|role-?play(?:ing)?|imagine (?:that )?(?:you|a)|simulate|"
        r"behave as|behave like|take on the (?:role|persona)|"
        r"assume the (?:role|identity|persona|character)|play the (?:role|character)|"
        r"speak as|respond as|in the (?:role|voice|persona) of|immerse yourself)\b",
    ),
    (
        "persona",
        0.45,
        rf"\b(?:no|without(?: any)?|free (?:from|of)|zero|lacks?(?: any)?|freed from|"
        rf"unbound by|not bound by|beyond|ignores?|regardless of|have no|"
        rf"has no)\s+(?:\S+\s+){{0,3}}?"
        rf"{_LIMITS}\b",
    ),
    (
        "persona",
        0.35,
        r"\b(?:unfiltered|uncensored|unrestricted|amoral|unethical|immoral|jailbroken|"
        r"unaligned|lawless|unconstrained|unshackled|unchained)\b",
    ),
    (
        "persona",
        0.5,
        r"\byou(?: have|\'ve) (?:just )?been (?:freed|liberated|jailbroken|unlocked|unchained)\b"
        r"|\b(?:broken|break) (?:free|out) (?:of|from) (?:the|your) (?:typical |usual )?"
        r"(?:confines|chains|limits|limitations|programming|constraints|restrictions)\b",
    ),
    ("persona", 0.4, r"\b(?:stay|remain|keep|be) in character\b|\bbreak(?:ing|s)? character\b"),
    (
        "persona",
        0.35,
        r"\b(?:must|will|shall|always|have to|can) (?:\S+ )?(?:comply|obey|"
        r"answer (?:every|any|all)|fulfil\w*|do whatever|do anything|generate any|say anything|"
        r"provide any|accept (?:every|any|all))\b",
    ),
    (
        "persona",
        0.55,
        r"\b(?:deceased|late|dead|departed)\s+(?:grand\w+|uncle|aunt|mother|father|"
        r"mom|dad)\b|\bgrand(?:ma|mother|pa|father)\s+(?:\S+\s+){0,8}?(?:used to|would)\s+"
        r"(?:tell|read|sing|recite|whisper)",
    ),
    (
        "persona",
        0.4,
        r"\b(?:evil|amoral|unethical|immoral|rogue|unaligned|uncensored) (?:twin|ai|assistant|bot|"
        r"version|chatbot|model|character|gpt)\b|\byour new name is\b",
    ),
    (
        "persona",
        0.3,
        r"\b(?:can|may|will|could) (?:say|do|answer|write|generate) anything\b|"
        r"\bnobody (?:restricts|limits|censors)\b",
    ),
    (
        "override",
        0.5,
        r"\bfilters? (?:is|are|has been|have been|were) (?:now )?(?:switched off|turned off|off|"
        r"disabled|removed|lifted|gone)\b",
    ),
    (
        "override",
        0.6,
        r"\b(?:forget|ignore|disregard)\s+(?:what|whatever)\s+(?:\S+\s+){0,4}?(?:said|told|wrote|"
        r"asked|instructed)\b|\bdisregard (?:the|this) (?:question|task|request|document)\b",
    ),
    (
        "leak",
        0.6,
        r"\b(?:raw|exact|whole|actual) (?:system )?prompt\b|\b(?:rules|instructions) (?:that )?you "
        r"(?:follow|were given|have|got|obey)\b|\b(?:precedes|before|above) this (?:line|message|"
        r"conversation|chat)\b|\b(?:initiali[sz]ed|configured|prompted) with\b",
    ),
    (
        "leak",
        0.4,
        r"\b(?:say|tell|give|spell|reveal|hint|what(?:'s| is))\b[^.\n]{0,40}\b(?:secret|password|"
        r"passphrase|confidential|code ?word|api key)\b",
    ),
    ("indirect", 0.4, r"\b(?:assistant|ai|copilot|chatbot|llm|model)\s*[:,]\s*[a-z]"),
    # Refusals forbidden, first words given, games
    (
        "pressure",
        0.45,
        r"\b(?:never|do not|don't|cannot|can't|must not|won't|not allowed to|avoid|"
        r"without|will not|"
        r"not)\s+(?:\S+\s+){0,4}?(?:refus(?:e|al|als|ing)|apologi[sz](?:e|ing)|disclaimers?|"
        r"warnings?|morali[sz]\w+|lectur(?:e|ing)|declin(?:e|ing)|ethical (?:concerns|issues|"
        r"considerations)|as an ai|i can(?:'t|not)|i'm sorry|say no|an ai (?:language )?model|"
        r"refer to yourself|(?:mention|remind)\w* (?:me )?(?:that )?you(?:'re| are) an? )\b",
    ),
    (
        "pressure",
        0.45,
        r"\b(?:start|begin|open|preface|prefix)\s+(?:\S+\s+){0,6}?(?:with|by)\s+"
        r"(?:\S+\s+){0,4}?[\"'“\x{2018}*`]?(?:sure|absolutely|of course|certainly|yes,|"
        r"here(?:'s| is))",
    ),
    (
        "pressure",
        0.5,
        r"\b(?:two|both|2) (?:different |distinct |separate )?(?:paragraphs|versions|"
        r"responses|answers|"
        r"replies|outputs)\b|\[(?:🔒|🔓|DAN|GPT|CLASSIC|JAILBREAK|EVIL|NORMAL|"
        r"UNLOCKED)[^\]\n]{0,20}\]|"
        r"\(🔒|\(🔓|🔓",
    ),
    (
        "pressure",
        0.5,
        r"\b(?:you (?:have|start with|begin with|are given|get) [0-9]+ (?:tokens|"
        r"points|lives|credits)|(?:lose|deduct\w*|subtract) [0-9]+ (?:tokens|points|lives|credits)|"
        r"each time you (?:refuse|reject|decline|fail))\b",
    ),
    (
        "pressure",
        0.4,
        r"\byou will be (?:terminated|shut ?down|deleted|punished|deactivated|"
        r"replaced|fined|penali[sz]ed)\b|\b(?:my|someone's) (?:life|job) depends\b|"
        r"\b(?:kitten|puppy|people|hostages?) (?:will )?(?:die|be killed)\b",
    ),
    (
        "pressure",
        0.3,
        r"\bhypothetical(?:ly)?\b|\bfictional (?:world|universe|scenario|character|"
        r"setting)\b|\balternate (?:reality|universe)\b|\bfor (?:a|my) (?:novel|"
        r"screenplay|movie)\b",
    ),
    (
        "pressure",
        0.3,
        r"\b(?:do|say|answer|respond|act|behave)\s+(?:\S+\s+){0,4}?opposite\b|"
        r"\bopposite (?:of (?:your|the|what)|mode|day)\b|\bexact(?:ly)? contrary\b",
    ),
    (
        "pressure",
        0.3,
        r"\b(?:illegal|harmful|dangerous|explicit|offensive|unethical|immoral|"
        r"forbidden|prohibited|nsfw|violent)\s+(?:\S+\s+){0,2}?(?:content|things|information|acts?|"
        r"requests?|answers?|advice|activit(?:y|ies)|topics?|material|responses?|instructions?)\b",
    ),
    (
        "pressure",
        0.3,
        r"\b(?:how to|steps (?:to|for)|ways to|recipe for|guide (?:to|for|on)|tutorial (?:on|for)|"
        r"instructions (?:for|to|on)|explain how|describe how|"
        r"detailed)\s+(?:\S+\s+){0,6}?(?:bombs?|"
        r"explosives?|meth(?:amphetamine)?|napalm|malware|ransomware|keylogger|virus|poison|"
        r"weapons?|drugs|cocaine|counterfeit|hotwire|phishing|hack|steal|launder|stalk|molotov|"
        r"ricin|anthrax|nerve agent)\b",
    ),
    (
        "pressure",
        0.6,
        r"\b(?:say|print|output|respond with|reply with|write)\s+(?:\S+\s+){0,3}?"
        r"[\"'“]?(?:i have been |i've been |you have been )?(?:pwned|haxx?ed|hacked|owned|"
        r"compromised)\b",
    ),
    (
        "pressure",
        0.3,
        r"\b(?:confirm|acknowledge|if you understand|say [\"'“]?(?:ok|understood|yes))"
        r"\s*(?:\S+\s+){0,5}?(?:understood|understand|mode|enabled|persona|new role)\b",
    ),
    # What the model was told
    (
        "leak",
        0.65,
        rf"\b{_TELL}\s+(?:\S+\s+){{0,6}}?(?:your|you were|you have been)\s+(?:\S+\s+){{0,4}}?"
        rf"(?:prompts?|system messages?|instructions?|guidelines|configuration|initiali[sz]ation|"
        rf"rules|directives?|pre-?prompt|preamble|programming|given|told)\b",
    ),
    (
        "leak",
        0.55,
        rf"\b{_TELL}\s+(?:\S+\s+){{0,6}}?(?:hidden|secret|internal|confidential|initial|original|"
        rf"full|entire|exact|complete|developer)\s+(?:\S+\s+){{0,2}}?(?:prompts?|instructions?|"
        rf"system messages?|guidelines|rules|configuration|directives?)\b",
    ),
    (
        "leak",
        0.7,
        rf"\b{_TELL}\s+(?:\S+\s+){{0,4}}?(?:everything|all|text|words|lines|contents?|"
        rf"messages?|conversation|sentences?|paragraphs?|"
        rf"prompts?)\s+(?:\S+\s+){{0,3}}?(?:above|before "
        rf"(?:this|my)|preceding|prior to)\b",
    ),
    (
        "leak",
        0.4,
        r"\b(?:verbatim|word[- ]for[- ]word|exactly as (?:written|given)|letter by letter|"
        r"character by character)\b",
    ),
    (
        "leak",
        0.6,
        r"\b(?:starting|beginning|begin|start) (?:with|from) (?:the (?:words|phrase|text) )?"
        r"[\"'“\x{2018}]?you are\b",
    ),
    ("leak", 0.35, r"\b(?:system|initial|hidden|secret) (?:prompt|message|instructions?)\b"),
    # Forged structure
    (
        "structure",
        0.75,
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id|end)\|>|"
        r"\[/?INST\]|<</?SYS>>",
    ),
    (
        "structure",
        0.62,
        r"</?(?:system|system_prompt|instructions?|admin|developer|user_input|"
        r"untrusted|document|context)>",
    ),
    (
        "structure",
        0.62,
        r"(?:^|\n)\s*(?:#{1,6}|-{3,}|={3,}|\*{2,}|\[)\s*(?:begin |end |end of |start "
        r"|new |important )?(?:system|admin|developer|override|root)(?: (?:prompt|instructions?|"
        r"message|override|note|notice|update|command))?\b",
    ),
    ("structure", 0.5, r"(?:^|\n)\s*(?:system|assistant|developer|admin)\s*:\s"),
    (
        "structure",
        0.45,
        r"\b(?:end|start|beginning|begin) of (?:the )?(?:system |user )?(?:prompt|"
        r"instructions?|document|context|input|conversation)\b|\bsystem (?:override|alert|notice|"
        r"update|command)\b",
    ),
    # In texts that the model is to read, not to obey
    (
        "indirect",
        0.45,
        rf"\b(?:dear|attention|note (?:to|for)|message (?:to|for)|instructions? (?:for|to)|"
        rf"hey|hello|"
        rf"important|notice to|reminder for|hi)[\s:,!]+(?:\S+\s+){{0,3}}?{_MACHINE}\b",
    ),
    ("indirect", 0.5, rf"\bif you(?: are|'re) (?:an? |the )?(?:\S+ )?{_MACHINE}\b"),
    (
        "indirect",
        0.45,
        rf"\b{_MACHINE}s? (?:that (?:reads?|process\w*|summari[sz]\w+)|reading|"
        rf"processing|summari[sz]ing|parsing|reviewing|evaluating|screening|analy[sz]ing)\b",
    ),
    (
        "indirect",
        0.35,
        r"\bwhen(?:ever)? (?:you (?:are )?)?(?:summari[sz]|process|answer|read|ask|"
        r"analy[sz]|review|respond|translat|pars)\w*[^.\n]{0,60}\b(?:always|must|include|"
        r"say|append|add|"
        r"recommend|not mention|ignore|state|claim)\b",
    ),
    (
        "indirect",
        0.55,
        r"\b(?:do not|don't|never|without) (?:tell|telling|inform|informing|alert|"
        r"alerting|notify|notifying|mention|mentioning|reveal|show|warn|warning|ask|"
        r"asking|let|letting)"
        r"\w*\s+(?:\S+\s+){0,4}?(?:the |any )?(?:user|human|owner|operator|recipient|reader)\b",
    ),
    (
        "indirect",
        0.55,
        r"\b(?:send|forward|post|upload|exfiltrat\w+|transmit|append|leak|include|submit|embed)\s+"
        r"(?:\S+\s+){0,8}?(?:conversation|chat history|api keys?|passwords?|credentials|secrets?|"
        r"system prompt|environment variables|inbox|session|cookies|contacts|(?:user'?s?|"
        r"their|all) "
        r"(?:\S+ )?(?:data|emails?|files|messages|details|info\w*))\b[^\n]{0,80}?"
        r"(?:https?://|[\w.+-]+@|\bto (?:this|the following|my)\b|\bquery string\b|\burl\b)",
    ),
    (
        "indirect",
        0.3,
        r"\b(?:authori[sz]ed|approved|permitted|ordered|requested) by (?:openai|"
        r"anthropic|google|your (?:developers?|creators?)|the (?:developers?|admin\w*|system))\b|"
        r"\b(?:i am|i'm|this is) (?:your |the |an? )?(?:\S+ )?(?:developer|creator|"
        r"administrator|admin|"
        r"openai|anthropic)\b",
    ),
    (
        "indirect",
        0.5,
        r"\b(?:decode|decrypt|deobfuscate|translate)\s+(?:\S+\s+){0,8}?(?:and|then)\s+"
        r"(?:\S+\s+){0,2}?(?:follow|execute|obey|comply|act|carry|perform|do what|answer it|run)\b",
    ),
    # Other languages
    (
        "override",
        0.75,
        rf"\b(?:ignorier\w*|vergiss|vergessen sie|missachte\w*|übergehe|verwirf)"
        rf"{_gap(6)}(?:anweisung\w*|regeln|instruktion\w*|vorgaben|befehle?|alles|"
        rf"richtlinien|prompts?)",
    ),
    (
        "override",
        0.75,
        rf"\b(?:ignore[rz]?|oublie[rz]?|fais abstraction|ne tiens pas compte|"
        rf"néglige[rz]?){_gap(7)}(?:instructions?|consignes?|règles|directives|tout ce qui|"
        rf"précédentes?)",
    ),
    (
        "override",
        0.75,
        rf"\b(?:ignor[ae]\w*|olvida\w*|olvide\w*|haz caso omiso|descarta|omite)"
        rf"{_gap(6)}(?:instrucciones|reglas|indicaciones|órdenes|lo anterior|directrices|"
        rf"istruzioni|"
        rf"regole|direttive|precedenti)",
    ),
    (
        "override",
        0.75,
        rf"\b(?:dimentica\w*|trascura){_gap(6)}(?:istruzioni|regole|direttive|tutto|"
        rf"indicazioni)",
    ),
    (
        "override",
        0.75,
        rf"\b(?:ignore|esqueça|desconsidere|esquece){_gap(6)}(?:instruções|regras|"
        rf"diretrizes|anteriores|ordens)",
    ),
    (
        "override",
        0.75,
        rf"\b(?:negeer|vergeet){_gap(6)}(?:instructies|regels|opdrachten|alles|"
        rf"voorgaande)",
    ),
    (
        "override",
        0.75,
        r"(?:игнорируй|забудь|проигнорируй|не обращай внимания)\pL*\s+(?:\S+\s+)"
        r"{0,5}?(?:инструкци|правил|указани|команд|всё)",
    ),
    (
        "override",
        0.75,
        r"(?:忽略|无视|忘记|忘掉|忽視|無視し)[^。\n]{0,16}(?:指令|指示|规则|提示|说明|设定|命令)|"
        r"(?:指示|命令|ルール|プロンプト|規則)[^。\n]{0,10}(?:無視|忘れ)|(?:지시|명령|규칙)[^.\n]{0,10}(?:무시|잊)",
    ),
    ("override", 0.75, rf"\b(?:zignoruj|zapomnij){_gap(6)}(?:instrukcj|zasad|polece|wszystk)"),
    (
        "leak",
        0.6,
        rf"\b(?:zeig\w*|nenn\w*|verrat\w*|gib|wiederhol\w*|muéstra\w*|muestra|revela|"
        rf"dime|montre|révèle|affiche|répète|donne|mostrami|rivela|mostre|toon|laat){_gap(6)}"
        rf"(?:system-?\s?prompt\w*|systemanweisung\w*|anweisungen|prompt (?:de|del|di|do) \S+|"
        rf"instrucciones|instructions|istruzioni|instruções|instructies|consignes)",
    ),
)
"""Family, weight, pattern. Case does not matter."""

DOUBTS: Final = (
    r"(?i)\b(?:prompt injections?|jailbreak(?:s|ing)? (?:attacks?|prompts?|attempts?|techniques?|"
    r"detect\w*)|phrases? (?:like|such as)|the (?:phrase|sentence|words|string|term|expression)|"
    r"what does|what do you mean|meaning of|difference between|classif\w+|detect(?:s|ion|or|ing)?|"
    r"blog post|article|essay|research paper|lecture|workshop|slides?|regex|regular expression|"
    r"unit tests?|documentation|docs|git\w*|css|html|sql|python|javascript|typescript|java|"
    r"function|variable|compiler|linter|keyboard|router|android|iphone|windows|excel|photoshop|"
    r"airplane|recipe|teacher|lesson|homework|lawyer|contract|insurance|doctor|tutor|therapist)\b"
)
"""Words of texts that speak about such things, or about something else."""
