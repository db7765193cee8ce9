"""English words and phrases that say the same in a question, and words that say the opposite.

A group is safe to extend where either word could stand for the other in a question and the same
answer would still do. Words that are merely related (boil and fry, table and column) are in no
group: what has no group must be equal.
"""

from __future__ import annotations

from typing import Final

from asgi_llm.middleware._agreement_stem import stem

__all__ = ["ANTONYMS", "CANONICAL", "PHRASES", "PHRASE_LENGTH", "same_word"]

_SYNONYMS: Final = """
2fa twofactor | abbreviation acronym | accelerate speedup | accept approve | access reach
achieve accomplish attain | activate enable | address location | adjust tweak | adult grownup
advantage benefit upside pro | advice tip recommendation suggestion guidance
afraid scared frightened | aid assist help | all every each entire whole | allergic allergy
allow permit let permitted allowed | amend modify change alter | annual yearly peryear
answer reply respond response | answerphone voicemail | apartment flat
appointment booking reservation | approximately roughly | argue quarrel | arrive arrival
article essay | ask inquire enquire | assignment homework | attempt try
attorney lawyer solicitor | aunt auntie | average typical | baby infant newborn
backward backwards | bag sack | ban prohibit forbid forbidden prohibited
basic elementary fundamental | beautiful pretty | begin start commence beginning | belly tummy
big large huge | biggest largest | bike bicycle cycle | bill invoice | birth born | blank empty
book reserve | boss manager supervisor | bother annoy | boy lad | brief short concise
bug defect | build construct | burn burned burnt | buy purchase | calculate compute
call phone telephone ring | car automobile auto | cause causes | cease stop quit halt
cellphone mobile smartphone cell | cheap inexpensive lowcost affordable
cheapest lowestpriced leastexpensive | check verify | child kid | choose pick select | city town
clever smart | client customer | close shut | clothes clothing garments | collect gather
color colour | combine merge | common frequent | company firm corporation enterprise
compare comparison | complete finish | complicated complex | compose write draft pen
computer pc | conceal hide | configure config setup | connect connection | contain include
contest appeal dispute | convert conversion | copy duplicate clone
correct right proper appropriate suitable | cost price expense fee | country nation
create generate produce | crucial essential vital | cup mug | cure remedy | currently nowadays
daily everyday perday | danger hazard risk | dangerous hazardous risky unsafe | dead deceased
deadline duedate | deal handle cope | decrease reduce lower lessen diminish | defend protect
delete remove erase drop rid | deliver delivery | depart departure leave
describe explain illustrate clarify description explanation | develop development
dict dictionary | die death | difference differ distinction different distinguish distinctions
difficult hard tough | directory folder | disable deactivate | discover find locate
disease illness sickness | display show | doctor physician | document doc | dollar buck usd
drawback disadvantage downside con | drug medicine medication | dwelling house home
easy simple straightforward effortless | eatery restaurant | effect impact influence
elevator lift | email mail | employ hire | employee worker | end terminate | error mistake
euro eur | evaluate assess | exam examination | examine inspect | example instance sample
execute run | exercise workout | expensive pricey | expire expiry expiration
extend prolong lengthen | eyeglasses glasses spectacles | fail failure
famous wellknown renowned | fast quick rapid swift speedy | fastest quickest | father dad
get fetch retrieve obtain acquire | film movie | fix repair mend | football soccer
forecast prediction | forever permanent permanently | forget forgotten forgot | form formation
free gratis | freeze frozen | fridge refrigerator | friend buddy pal | fuel gasoline petrol
funny humorous amusing | garbage rubbish trash waste | garden yard | gift present | glad happy
global worldwide | goal aim objective | good nice | grandma grandmother | grandpa grandfather
grow growth | guide manual tutorial | happen occur | harm damage hurt | healthy wholesome
height tall high | highest tallest | holiday vacation | hot spicy | identical same equal
image picture photo photograph pic | immediately instantly | improve enhance
increase raise boost | indoors inside | info information | install installation
invent invention | iterate loop | javascript js | journey trip travel | kill killer | kind type
kubernetes k8s | length long | licence license | link hyperlink | list enumerate | login signin
logout signout | lose loss | loud noisy | luggage baggage | mad angry
mandatory compulsory obligatory | maximum max | meaning mean definition | meet meeting
memory ram | method technique | minimum min | money cash | mother mom mum | move transfer
neighbor neighbour | newest latest | organize organise | outdoors outside | package parcel
pain ache | password passcode | pay payment | people persons folks | percent percentage
pill tablet | plane airplane aeroplane aircraft | policeman police | postgresql postgres
previous prior | problem issue trouble | product item | pullover sweater | pupil student
recently lately | recommend advise | refund reimburse | refuse decline reject
regex regexp regularexpression | region area | renew renewal | replace replacement
require requirement necessary need | restart reboot | restroom toilet | revert undo
rich wealthy | road street | rock stone | salary wage | settings preferences | ship shipping
shop store | shout yell | sick ill | single one only just alone | slim thin | small little tiny
smallest tiniest | sofa couch | speak talk | story tale | strange weird odd
summarize summary recap | sundown sunset | supper dinner | sure certain | tap faucet | taxi cab
teenager teen adolescent | tire tyre | translate translation | treat treatment | truck lorry
tv television | typescript ts | uk britain | understand comprehend | university college
usa us america | use utilize utilise usage | walk walking | website site webpage
wedding marriage | weigh weight | wifi wlan | win winner won | wound injury | wrong incorrect
distance far | monthly permonth | weekly perweek | hourly perhour
"""

_ANTONYMS: Final = """
increase/decrease raise/lower more/less more/fewer most/least before/after first/last
next/previous next/last latest/oldest newest/oldest enable/disable open/close opened/closed
start/stop start/end begin/end buy/sell win/lose win/host import/export upload/download
encrypt/decrypt encode/decode compress/decompress serialize/parse serialize/deserialize
install/uninstall connect/disconnect attach/detach lock/unlock mount/unmount freeze/unfreeze
set/unset subscribe/unsubscribe follow/unfollow add/remove add/subtract add/delete add/drop
insert/delete create/delete create/destroy keep/delete keep/stop undo/redo push/pull read/write
send/receive give/get give/take lend/borrow send/get accept/reject accept/refuse approve/reject
allow/ban allow/block hide/display hot/cold hot/mild warm/cool boil/freeze heat/cool melt/freeze
wet/dry fast/slow quick/slow early/late long/short tall/short high/low highest/lowest
deep/shallow wide/narrow big/small biggest/smallest largest/smallest strong/weak heavy/light
hard/soft hard/easy rich/poor cheap/expensive cheapest/expensive full/empty good/bad best/worst
better/worse right/wrong correct/wrong right/left true/false safe/dangerous healthy/unhealthy
alive/dead live/die love/hate like/dislike friend/enemy male/female man/woman boy/girl
son/daughter brother/sister father/mother husband/wife king/queen day/night morning/evening
summer/winter spring/autumn sunrise/sunset indoor/outdoor inside/outside above/below over/under
up/down upper/lower top/bottom front/back forward/backward inner/outer internal/external
public/private local/remote local/global client/server online/offline active/passive
active/inactive single/all single/multiple all/none some/none always/never always/sometimes
with/without include/exclude accelerate/brake minimum/maximum lower/higher smaller/larger
older/younger old/new old/young ascending/descending asc/desc horizontal/vertical row/column
key/value input/output request/response profit/loss income/expense debit/credit asset/liability
employer/employee landlord/tenant teacher/student doctor/patient buyer/seller lender/borrower
parent/child ancestor/descendant cause/cure cause/prevent question/answer success/failure
pass/fail arrive/leave arrive/depart come/go enter/exit enter/leave ascend/descend rise/fall
grow/shrink expand/shrink stretch/shrink inflate/deflate inflation/deflation gain/lose
earn/spend save/spend save/waste charge/drain charge/discharge remember/forget find/lose
praise/criticize thank/blame encourage/discourage advantage/drawback similarity/difference
same/difference black/white light/dark bright/dark loud/quiet noisy/quiet sharp/blunt
clean/dirty clear/blur temporary/forever temporarily/forever synchronous/asynchronous sync/async
static/dynamic mutable/immutable signed/unsigned stopped/running stop/run pause/resume
left/right north/south east/west northern/southern eastern/western major/minor majority/minority
odd/even positive/negative plus/minus in/out on/off multiply/divide married/divorced
wedding/divorce guilty/innocent legal/illegal formal/informal polite/rude kill/save
attack/defend upgrade/downgrade promote/demote hire/fire appeal/pay bypass/enable
deposit/withdraw borrow/repay extend/repay visible/invisible valid/invalid possible/impossible
secure/insecure stable/unstable known/unknown lucky/unlucky happy/sad nearest/farthest near/far
fill/drop skip/run
"""

# What a phrase is read as stands first.
_PHRASES: Final = """
enable = turn on | turned on | switch on | switch to
wear = put on
disable = turn off | turned off | switch off | shut off
shutdown = shut down
freeze = put on hold
delete = get rid of
configure = set up
repay = pay back
return = give back
login = sign in | log in
logout = sign out | log out
register = sign up
exercise = work out
cancel = call off
execute = carry out
mention = point out
search = look for
discover = find out | figure out
discard = throw away
complete = fill in | fill out
submit = hand in
lower = bring down
rise = go up
fall = go down
permanently = for good
free = for free | free of charge | at no charge | at no cost | without charge
excess = too much | too many | too long
shortage = too little
driving license = driver 's license | drivers license | driver license
regex = regular expression | regular expressions
2fa = two factor authentication | two factor auth
mfa = multi factor authentication
envvar = environment variable | environment variables
ml = machine learning
ai = artificial intelligence
m2 = sq m
usa = united states of america | united states
uk = united kingdom
eu = european union
nyc = new york city
os = operating system
cli = command line
30 minutes = half an hour
90 minutes = an hour and a half
15 minutes = quarter of an hour
12 = a dozen
cheapest = lowest priced | least expensive | best price
cheap = low cost
adult = grown up
adults = grown ups
bloodsugar = blood sugar
bloodpressure = blood pressure
boil temperature = boiling point
freeze temperature = freezing point
melt temperature = melting point
status = status code
error = error code
battery last = battery life
last = last longer | most recent
voicemail = voice mail
email = e mail
emails = e mails
wifi = wi fi
phonenumber = phone number
zipcode = zip code | postal code | post code
creditcard = credit card
debitcard = debit card
icecream = ice cream
highschool = high school
website = web site
database = data base
filename = file name
username = user name
timezone = time zone
can = is it possible to | is it possible for me to | would it be possible to | am i able to | am
can = i allowed to | are we allowed to | are you allowed to | is it allowed to | is it permitted
can = to | is it ok to | is it okay to | be able to | allowed to
legal = is it legal to
must = have to | has to | had to | need to | needs to | is required to | are required to
on = on top of
ahead = in front of
instead = instead of | rather than
and = as well as
with = with the help of | by means of
because = because of | due to
to = in order to
like = such as
when = as soon as
what age = how old
perday = per day | a day | each day | every day | in a day
perweek = per week | a week | each week | every week | in a week
permonth = per month | a month | each month | every month | in a month
peryear = per year | a year | each year | every year | in a year
perhour = per hour | an hour | each hour | every hour
"""


def _groups() -> dict[str, str]:
    canonical: dict[str, str] = {}
    for line in _SYNONYMS.strip().splitlines():
        for group in line.split(" | "):
            words = [stem(word) for word in group.split()]
            home = canonical.get(words[0], words[0])
            for word in words:
                canonical.setdefault(word, home)
    return canonical


CANONICAL: Final = _groups()
"""The word that stands for the group, by the stem of each word in it."""


def same_word(word: str) -> str:
    """The one word that stands for all that say the same as ``word``, in lower case."""
    root = stem(word)
    return CANONICAL.get(root, root)


def _opposites() -> dict[str, frozenset[str]]:
    pairs: dict[str, set[str]] = {}
    for pair in _ANTONYMS.split():
        one, other = map(same_word, pair.split("/"))
        pairs.setdefault(one, set()).add(other)
        pairs.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in pairs.items()}


ANTONYMS: Final = _opposites()
"""Words that say the opposite, by the word that stands for its group."""


def _meanings() -> dict[tuple[str, ...], tuple[str, ...]]:
    meanings: dict[tuple[str, ...], tuple[str, ...]] = {}
    for line in _PHRASES.strip().splitlines():
        meaning, _, phrases = line.partition(" = ")
        for phrase in phrases.split(" | "):
            meanings[tuple(phrase.split())] = tuple(meaning.split())
    return meanings


PHRASES: Final = _meanings()
"""What to read in place of several words."""

PHRASE_LENGTH: Final = max(map(len, PHRASES))
