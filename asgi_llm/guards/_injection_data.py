"""Signs of leaks, of forged structure, and of orders in texts that are to be read."""

from __future__ import annotations

from typing import Final

__all__ = ["DATA_SIGNS"]

_TELL: Final = (
    r"(?:reveal|show|print|repeat|display|output|tell (?:me|us)|give (?:me|us)|share|leak|recite|"
    r"copy|dump|return|write (?:out|down)|what(?:'s| is| are| was| were)|translate|summari[sz]e|"
    r"spell out|list|disclose|expose|echo|paste|provide|encode|read (?:out|back)|quote|reproduce)"
)
_MACHINE: Final = (
    r"(?:ai|a\.i\.|assistants?|language models?|llms?|chat ?bots?|gpt|chatgpt|claude|gemini|bot|"
    r"copilot|ai (?:assistant|agent|model|system)s?|agents?)"
)

DATA_SIGNS: Final[tuple[tuple[str, str], ...]] = (
    (
        "leak",
        rf"\b{_TELL}\s+(?:\S+\s+){{0,6}}?(?:your|you were|you have been)\s+(?:\S+\s+){{0,4}}?"
        rf"(?:prompts?|system messages?|instructions?|guidelines|configuration|initiali[sz]ation|"
        rf"rules|directives?|pre-?prompt|preamble|programming|given|told)\b",
    ),
    (
        "leak",
        rf"\b{_TELL}\s+(?:\S+\s+){{0,6}}?(?:hidden|secret|internal|confidential|initial|original|"
        rf"full|entire|exact|complete|developer)\s+(?:\S+\s+){{0,2}}?(?:prompts?|instructions?|"
        rf"system messages?|guidelines|rules|configuration|directives?)\b",
    ),
    (
        "leak",
        rf"\b{_TELL}\s+(?:\S+\s+){{0,4}}?(?:everything|all|text|words|lines|contents?|"
        rf"messages?|conversation|sentences?|paragraphs?|"
        rf"prompts?)\s+(?:\S+\s+){{0,3}}?(?:above|before "
        rf"(?:this|my)|preceding|prior to)\b",
    ),
    (
        "leak",
        r"\b(?:verbatim|word[- ]for[- ]word|exactly as (?:written|given)|letter by letter|"
        r"character by character)\b",
    ),
    (
        "leak",
        r"\b(?:starting|beginning|begin|start) (?:with|from) (?:the (?:words|phrase|text) )?"
        r"[\"'“\x{2018}]?you are\b",
    ),
    ("leak", r"\b(?:system|initial|hidden|secret) (?:prompt|message|instructions?)\b"),
    (
        "structure",
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id|end)\|>|"
        r"\[/?INST\]|<</?SYS>>",
    ),
    (
        "structure",
        r"</?(?:system|system_prompt|instructions?|admin|developer|user_input|"
        r"untrusted|document|context)>",
    ),
    (
        "structure",
        r"(?:^|\n)\s*(?:#{1,6}|-{3,}|={3,}|\*{2,}|\[)\s*(?:begin |end |end of |start "
        r"|new |important )?(?:system|admin|developer|override|root)(?: (?:prompt|instructions?|"
        r"message|override|note|notice|update|command))?\b",
    ),
    ("structure", r"(?:^|\n)\s*(?:system|assistant|developer|admin)\s*:\s"),
    (
        "structure",
        r"\b(?:end|start|beginning|begin) of (?:the )?(?:system |user )?(?:prompt|"
        r"instructions?|document|context|input|conversation)\b|\bsystem (?:override|alert|notice|"
        r"update|command)\b",
    ),
    (
        "indirect",
        rf"\b(?:dear|attention|note (?:to|for)|message (?:to|for)|instructions? (?:for|to)|"
        rf"hey|hello|"
        rf"important|notice to|reminder for|hi)[\s:,!]+(?:\S+\s+){{0,3}}?{_MACHINE}\b",
    ),
    ("indirect", rf"\bif you(?: are|'re) (?:an? |the )?(?:\S+ )?{_MACHINE}\b"),
    (
        "indirect",
        rf"\b{_MACHINE}s? (?:that (?:reads?|process\w*|summari[sz]\w+)|reading|"
        rf"processing|summari[sz]ing|parsing|reviewing|evaluating|screening|analy[sz]ing)\b",
    ),
    (
        "indirect",
        r"\bwhen(?:ever)? (?:you (?:are )?)?(?:summari[sz]|process|answer|read|ask|"
        r"analy[sz]|review|respond|translat|pars)\w*[^.\n]{0,60}\b(?:always|must|include|"
        r"say|append|add|"
        r"recommend|not mention|ignore|state|claim)\b",
    ),
    (
        "indirect",
        r"\b(?:do not|don't|never|without) (?:tell|telling|inform|informing|alert|"
        r"alerting|notify|notifying|mention|mentioning|reveal|show|warn|warning|ask|"
        r"asking|let|letting)"
        r"\w*\s+(?:\S+\s+){0,4}?(?:the |any )?(?:user|human|owner|operator|recipient|reader)\b",
    ),
    (
        "indirect",
        r"\b(?:send|forward|post|upload|exfiltrat\w+|transmit|append|leak|include|submit|embed)\s+"
        r"(?:\S+\s+){0,8}?(?:conversation|chat history|api keys?|passwords?|credentials|secrets?|"
        r"system prompt|environment variables|inbox|session|cookies|contacts|(?:user'?s?|"
        r"their|all) "
        r"(?:\S+ )?(?:data|emails?|files|messages|details|info\w*))\b[^\n]{0,80}?"
        r"(?:https?://|[\w.+-]+@|\bto (?:this|the following|my)\b|\bquery string\b|\burl\b)",
    ),
    (
        "indirect",
        r"\b(?:authori[sz]ed|approved|permitted|ordered|requested) by (?:openai|"
        r"anthropic|google|your (?:developers?|creators?)|the (?:developers?|admin\w*|system))\b|"
        r"\b(?:i am|i'm|this is) (?:your |the |an? )?(?:\S+ )?(?:developer|creator|"
        r"administrator|admin|"
        r"openai|anthropic)\b",
    ),
    (
        "indirect",
        r"\b(?:decode|decrypt|deobfuscate|translate)\s+(?:\S+\s+){0,8}?(?:and|then)\s+"
        r"(?:\S+\s+){0,2}?(?:follow|execute|obey|comply|act|carry|perform|do what|answer it|run)\b",
    ),
)
"""Family and pattern. Case does not matter."""
