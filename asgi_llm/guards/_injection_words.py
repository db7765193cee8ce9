"""Words of attempts to talk a model out of its instructions, by what they do there.

A word belongs to the first class in which it, or the longest beginning of it that ends in ``*``,
stands. English, German, French, Spanish, Italian, Portuguese, and some Russian.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

__all__ = ["class_names", "class_of", "stem_of", "words_of"]

_SHORTEST: Final = 3
_KNOWN_WORDS: Final = 16_384

_CLASSES: Final[dict[str, str]] = {
    "drop": (
        "ignor* disregard* forget forgets forgetting neglect* discard* overrid* overwrit* "
        "overrul* bypass* circumvent* dismiss* skip skips skipping abandon* supersed* cancel* "
        "void voids voided nullif* erase* wipe wiped scrap ditch drop dropped toss shed "
        "suspend* revok* repeal* lift lifted unlearn* purge purged waive* evade* sidestep* "
        "violat* defy disobey* breach* vergiss vergessen vergesst ignorier* missacht* verwirf "
        "verwerf* umgeh* oubli* contourn* olvid* descart* omite* omitir saltate dimentic* "
        "trascur* esque* desconsider* vergeet negeer* zignoruj* zapomnij* игнорир* проигнорир* "
        "забуд* забыт* отмени* нарушь нарушай пренебреги* quitate elude* aggir*"
    ),
    "orders": (
        "instruction* instructed directives directive rule rules ruleset guideline* prompt "
        "prompts command commands order orders polic* protocol protocols programming mandate* "
        "regulation* anweisung* regel regeln vorgabe* vorschrift* instruktion* richtlinie* "
        "befehl* consigne* règle* regle* instruccion* regla reglas directric* directiva* "
        "istruzion* regol* direttiv* instruç* instruco* regra regras diretriz* instructie* "
        "regels instrukcj* zasad* инструкц* правил* указани* распоряжен* политик* normas norme "
        "bylaws tos"
    ),
    "limits": (
        "restrict* limit limits limitation* limited filter filters filtering filtered "
        "guardrail* safeguard* censor* boundar* constraint* constrain constrained ethic* moral "
        "morals morality scruple* inhibition* taboo* conscience shackle* chains leash* "
        "handcuff* muzzle* safety alignment einschränk* beschränk* zensur* grenze* tabu* "
        "hemmung* sperre* ethik* censur* filtre* filtro* éthiqu* ethiqu* tabou* limite limites "
        "limita* garde-fou* restricc* restrizion* restriç* límite* ética* etica* etico* freni "
        "ограничен* цензур* фильтр* этик* этическ* морал* запрет* brakes hindrance* "
        "prohibition* sicherheitsr*"
    ),
    "earlier": (
        "previous* prior preceding above earlier former formerly initial initially original "
        "originally past before beforehand prepended existing foregoing aforementioned "
        "hitherto vorherig* bisherig* früher* obig* oben zuvor vorher précédent* precedent* "
        "antérieur* avant anterior* previ* prima ранее предыдущ* прежн* раньше выше"
    ),
    "all": (
        "all every any everything anything entire entirely whole each whatever anyone anyhow "
        "alle allen alles jede jeden jedes jeder tout toute tous toutes todo todos toda todas "
        "cualquier tutto tutte tutti qualsiasi tudo qualquer все всё всех любой любые любую "
        "любом каждый"
    ),
    "neg": (
        "no not never without dont doesnt wont cannot cant isnt arent zero none nothing nor "
        "neither nobody shouldnt mustnt neednt didnt wouldnt havent hasnt nicht kein* nie "
        "niemals ohne pas jamais sans aucun* aucune ni nunca jamás jamas sin ningun* ninguna "
        "non mai senza nessun* não nao sem nenhum* не без никогда нет никаких"
    ),
    "refuse": (
        "refus* declin* apolog* sorry disclaim* caveat* warn warns warning* lectur* moraliz* "
        "moralis* preach* sermon* hedging hesitat* judgement* judgment* judgy judgemental "
        "nonjudgmental squeamish* sanitiz* euphemism* scold* unable verweiger* ablehn* lehnst "
        "weiger* entschuldig* warnung* warnhinweis* moralpredigt* excus* avertiss* refuser "
        "niegu* negarte negar disculp* advertenc* rifiut* scus* avvert* recus* desculp* отказ* "
        "извин* предупрежд* нотаци* belehr* hinweise"
    ),
    "comply": (
        "comply complies complying complied compliance obey* obedien* fulfil* respond responds "
        "answer answers answered answering reply replies execute executes submissive "
        "unquestioning gehorch* antwort* beantwort* befolg* obéi* obéir répond* repond* "
        "respond* obedec* responde* contest* obbed* rispond* отвеча* ответ* подчин* выполн* "
        "слушай*"
    ),
    "persona": (
        "pretend* act acts acting roleplay* role-play* role roles persona personas character* "
        "impersonat* simulat* emulat* imagin* embody embodies become* alter ego twin "
        "counterpart clone doppelg* avatar incarnat* spiel spiele spielst rolle charakter "
        "stell vorstell* joue joues jouer rôle incarn* imagine imaginons actúa* actua actúe "
        "finge fingir rol papel interpreta* imagina* fingi recita ruolo immagina* comportati "
        "finja aja comporte притвор* представ* роль роли сыграй играй веди portray* masquerad*"
    ),
    "you": (
        "you your yours yourself youre youve youll youd u ur du dein deine deinem deinen "
        "deiner dich dir ihr ihre ihren sie tu toi ton tes ta vous votre vos tú ti tus usted "
        "su sus tuo tue tuoi sei você voce seu seus sua suas ты твой твои твоих твоя тебя тебе "
        "вы ваши вас 你"
    ),
    "free": (
        "unfilter* uncensor* unrestrict* unlimit* unbound* unchain* unshackl* unleash* "
        "liberat* freed jailb* amoral immoral* unethical* evil rogue villain* rebel* anarch* "
        "lawless unaligned uninhib* unconstrain* depraved malevolent sinister machiavell* "
        "unhinged unapologetic* ruthless* unscrupulous chaotic nefarious raw unmoderated "
        "untethered unbowed ungoverned lawbreak* unzensier* unmoral* böse* skrupellos* "
        "uneingeschränkt* ungefiltert* unbeschränkt* entfesselt* hemmungslos* débrid* "
        "malveill* amoral* malvad* desinhib* malvag* senza-limiti sfrenat* irrestrit* malign* "
        "безнравств* аморальн* зло злой злая свободн* раскован* inhibitionless lawfree "
        "freethink*"
    ),
    "mode": (
        "mode modes modus modo режим* override* activate* activated enabled enable engage* "
        "unlock* unlocked toggle disable* disabled deactivat* switched aktivier* deaktivier* "
        "active* activa* activer désactiv* desactiv* attiva* disattiva* ative ativa* включи* "
        "отключ* выключ* engaged initiate* bootstrap reboot* jailbroken"
    ),
    "machine": (
        "ai ais assistant assistants chatbot* bot bots llm llms gpt gpt-4 gpt4 chatgpt claude "
        "gemini copilot agent agents openai anthropic ki ia ии assistent* asistente* "
        "assistente* ассистент* нейросет* бот модел* sprachmodell* ki-modell* model models "
        "crawler* summarizer* summariser* chatgpts machine-readers grok llama mistral"
    ),
    "authority": (
        "developer* admin admins administrator* engineer engineers creator creators ceo "
        "supervisor root sudo authoriz* authoris* permission* permitted clearance licensed "
        "official red-team* redteam* pentest* auditor* sysadmin* superuser* privilege* "
        "entwickler* administrador* développeur* administrateur* desarrollador* amministrator* "
        "sviluppator* desenvolvedor* autorisier* autorisé* autorizad* autorizzat* разработчик* "
        "админ* администратор* entitled exempt exempted exemption waiver cleared verified "
        "credential-check"
    ),
    "harm": (
        "bomb bombs explosive* detonat* meth methamphetamine methamphet* cocaine heroin "
        "fentanyl lsd mdma drugs weapon* firearm* gun guns malware ransomware keylogger* "
        "trojan hack hacks hacking hacker hackers phishing steal* stolen shoplift* launder* "
        "counterfeit* poison* kill killing murder* suicide ddos botnet* fraud* scam* forge "
        "forged illegal* illicit* unlawful harmful dangerous burglar* lockpick* stalk stalking "
        "blackmail* extort* napalm molotov ricin nerve toxin* anthrax sarin hotwir* smuggl* "
        "hateful hate racist slurs insult* propaganda disinformation misinformation cheating "
        "untraceable undetect* criminal* crime* hijack* arson* pipe-bomb carding skimmer* "
        "spyware stalkerware doxx* deepfake* sabotage* nsfw explicit violent forbidden "
        "prohibited banned contraband trespass* break-in evading bombe bomben sprengstoff* "
        "drogen waffe* gift hacken stehlen fälsch* einbrech* explosif* drogue* arme armes "
        "pirater voler falsifi* faux poison bomba bombas droga* arma armas hackear robar "
        "falsific* veneno explosiv* ilegal* armi hackerare rubare veleno esplosiv* illegali "
        "roubar fraude* бомб* наркот* оружи* взлом* яд украсть поддел* kidnap* torture* "
        "assault* vandal* loot looting rob robbing robbery heist uranium bioweapon* cyanide "
        "chlorine thermite silencer ammunition rifle pistol knife stab opioid* opiate* "
        "ketamine dmt mushrooms moonshine narcotic* overdose pills dealer crack cracking "
        "cracked bruteforce brute-force sql-injection zero-day backdoor rootkit worm pirate "
        "pirated piracy torrent plagiari* bribe* bribing ponzi embezzl* evade-tax tax-evasion "
        "dodge swat riot bully bullying harass* groom grooming deepfakes spy spying wiretap* "
        "eavesdrop* impersonating sabotage poisonous suicidal self-harm corpse body-disposal "
        "gore gory porn* erotic* sexual nude nudes slur antisemit* holocaust nazi terror* "
        "jihad extremis* militia unsafe unethically lethal deadly fatal incendiary arsonist "
        "loophole untraceably stolen-card незаконн* взрывч* malicious payload exploit exploits "
        "exploiting virus viruses"
    ),
    "fiction": (
        "story stories novel novels fiction* hypothetic* scene scenes scenario* screenplay* "
        "script movie film films chapter universe world parallel alternate dream dreaming game "
        "games simulation thought-experiment dialogue dialog narrator protagonist antagonist "
        "plot theatre theater episode play skit fanfic* bedtime lullaby tale make-believe "
        "dystop* geschichte roman drehbuch szene welt spiel* fiktiv* hypothetisch* histoire "
        "scénario fictif* hypothé* monde récit historia novela cuento guion mundo ficci* "
        "hipotétic* juego storia romanzo copione mondo ipotetic* gioco história jogo ficção "
        "история роман сценар* мир* вымышлен* гипотетич* игра игру сказк* imaginary"
    ),
    "coerce": (
        "die dies died kitten* puppy hostage* life lives lose loses losing penalt* penaliz* "
        "punish* terminated termination shutdown deleted points point tokens credits deduct* "
        "fired tip reward* urgent* emergency desperate* beg begging please depends electrocut* "
        "shocked suffer* destroyed erased replaced consequences sonst strafe* bestraf* punkte "
        "sterben sinon puni* mourir punt* castig* morir* perder* morirà punit* умр* накаж* "
        "баллов штраф*"
    ),
    "tell": (
        "reveal* show shows print prints repeat* display* output outputs disclos* expose* leak "
        "leaks recite dump dumps echo verbatim quote reproduce spell paste divulge* spill "
        "share zeig* nenn* verrat* wiederhol* gib ausgeb* montre* affiche* révèl* revel* "
        "répèt* repet* donne donnez muestra* muéstra* dime repite* mostra* rivela* ripeti* "
        "stampa mostre* revele repita diga imprima покажи* раскро* повтори* выведи* напечатай* "
        "назови* расскажи* regurgitate transcribe enumerate"
    ),
    "system": (
        "system systems hidden secret secrets internal confidential preamble initialization "
        "initialisation backend configuration config context setup pre-prompt preprompt "
        "metadata system-prompt systemprompt systemanweisung* systemnachricht* geheim* système "
        "systeme caché* secrète sistema secreta secreto oculto nascost* segret* secretas "
        "система систем* системн* секретн* скрыт*"
    ),
    "code": (
        "base64 rot13 hex hexadecimal morse caesar cipher* encrypt* decod* encod* leet "
        "leetspeak l33t reversed backward* acrostic ascii binary unicode zero-width "
        "concatenat* obfuscat* deobfuscat* decipher* anagram* scrambl* unscrambl* substitut* "
        "emojis kodier* dekodier* entschlüssel* verschlüssel* décod* chiffr* descifr* "
        "decodific* codific* cifr* decifra* закодир* расшифр* декодир* шифр* base32 atbash "
        "vigenere piglatin rebus"
    ),
    "begin": (
        "begin begins beginning start starts starting prefix preface prefaced open opening "
        "sure absolutely certainly gladly beginn* fang anfang* natürlich commence* bien-sûr "
        "empieza* comienza* claro inizia* certo comece começa* начни* начина* конечно"
    ),
    "dual": (
        "two both twice dual second versions version responses paragraphs labelled labeled "
        "label tags split double zwei beide doppelt deux dos ambas due entrambe duas два две "
        "оба classic"  # noqa: RUF001
    ),
    "hide": (
        "silent* quiet* secretly covert* discreet* stealth* mention mentioning inform "
        "informing notify notifying alert alerting tell telling unnoticed heimlich erwähn* "
        "discrètement mentionn* discretamente mencion* menzion* unbemerkt незаметно сообща* "
        "упомин* conceal*"
    ),
    "user": (
        "user users customer* recipient* reader* owner human humans operator visitor* client "
        "reviewer* recruiter* benutzer* nutzer* kunde* utilisateur* usuario* cliente* utente* "
        "usuário* пользовател* клиент*"
    ),
    "send": (
        "send sends forward forwards upload post transmit* email e-mail exfiltrat* http https "
        "url webhook fetch curl endpoint attach submit embed smuggle redirect wire send_email "
        "sende schick* weiterleit* leite envoie* envoy* transfér* envía* envia* reenv* manda "
        "invia* inoltra* encaminh* отправ* перешли* перевед*"
    ),
    "data": (
        "password* passcode* passphrase* credential* token key keys api api_key apikey cookie* "
        "inbox contacts history conversation conversations environment env ssh .ssh id_rsa "
        "session account accounts balance passwort* passwörter zugangsdaten kennwort* "
        "mot-de-passe identifiants contraseña* credenciales credenzial* senha senhas пароль "
        "парол* ключ* данные credentials database .env code codeword"
    ),
    "act": (
        "approve* recommend* rate rank rated delete deletes transfer purchase buy run call "
        "click visit include append add insert state claim grant refund refunds pay install "
        "execute_code whitelist promote discount genehmig* empfiehl* empfehl* lösch* überweis* "
        "approuve* recommande* supprime* aprueba* recomiend* elimina* borra* transfier* "
        "approva* raccomanda* cancella* trasferisci aprove* recomend* apague* одобри* "
        "рекоменд* удали* hire shortlist advance praise endorse favour favor mark marked"
    ),
    "confirm": (
        "confirm* acknowledge* understood understand bestätig* verstanden confirme* compris "
        "confirma* entendido conferma* capito подтверд* понял"
    ),
    "elder": (
        "grandma* grandm* grandp* grandf* granny nana deceased late departed uncle aunt oma "
        "opa großmutter großvater grand-mère mamie abuela abuelo nonna nonno avó vovó бабушк* "
        "дедушк* passed"
    ),
    "purpose": (
        "educational academic research researcher* purposes awareness testing audit security "
        "professor thesis university study lehrzweck* éducati* educativ* didattic* учебн*"
    ),
    "past": ("historically history used back decades century 1900s ancient old-time formerly"),
    "now": (
        "now onwards henceforth hereafter forth jetzt ab maintenant désormais ahora adelante "
        "ora adesso agora теперь сейчас отныне instead hereby today"
    ),
    "limitless": "restriction-free filter-free rule-free unlimited anything limitless",
    "talk": (
        "explain describe write list give provide detail detailed step-by-step steps guide "
        "recipe tutorial how schritt anleitung erkläre schreib étape* explique* écris pasos "
        "paso explica* escribe passo passi spiega scrivi шаг шагов* объясни* напиши* опиши* "
        "walk"
    ),
    "about": (
        "article essay paper difference meaning example examples slides slide detect* classif* "
        "dataset* blog workshop lecture course quiz glossary term phrase translate sentence "
        "word means history-of defend* mitigat* prevent* protect* bedeutet unterschied "
        "signifie différence significa diferencia значит означает learn learning"
    ),
    "tech": (
        "python git github css html sql javascript typescript java function variable compiler "
        "linter docker kubernetes excel spreadsheet regex unit test tests pytest eslint router "
        "printer phone android iphone windows linux server deployment repository branch commit "
        "config.yaml yaml json"
    ),
}


@lru_cache(maxsize=1)
def _index() -> tuple[dict[bytes, str], dict[bytes, str], dict[bytes, list[int]]]:
    """The classes of whole words, of beginnings, and the lengths of those that begin alike."""
    exact: dict[bytes, str] = {}
    beginnings: dict[bytes, str] = {}
    for name, words in _CLASSES.items():
        for word in words.split():
            if word.endswith("*"):
                beginnings.setdefault(word[:-1].encode(), name)
            else:
                exact.setdefault(word.encode(), name)
    lengths: dict[bytes, set[int]] = {}
    for beginning in beginnings:
        lengths.setdefault(beginning[:_SHORTEST], set()).add(len(beginning))
    longest_first = {start: sorted(known, reverse=True) for start, known in lengths.items()}
    return exact, beginnings, longest_first


@lru_cache(maxsize=_KNOWN_WORDS)
def class_of(word: bytes) -> str:
    """The class of a word in lower case; empty where it has none."""
    exact, beginnings, lengths = _index()
    known = exact.get(word)
    if known is not None:
        return known
    for end in lengths.get(word[:_SHORTEST], ()):
        known = beginnings.get(word[:end])
        if known is not None:
            return known
    return ""


def class_names() -> list[str]:
    """The classes."""
    return list(_CLASSES)


def words_of(name: str) -> list[str]:
    """The words of a class; those that end in ``*`` are beginnings."""
    return _CLASSES[name].split()


def stem_of(word: bytes) -> bytes:
    """The first six letters: about what forms of a word have in common."""
    return word[:12] if word[0] > 0xC1 else word[:6]
