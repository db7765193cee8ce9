"""Each guard refuses what it is there for, says so, and lets paraphrases pass."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.middleware._agreement import GUARDS, GuardName, disagreement, read

DIFFER: list[tuple[GuardName, str, str]] = [
    ("numbers", "How far is 15 miles?", "How far is 50 miles?"),
    ("numbers", "What is 1.5 times 3?", "What is 15 times 3?"),
    ("numbers", "What is 10 divided by 5?", "What is 5 divided by 10?"),
    ("numbers", "What is 7 + 5?", "What is 7 - 5?"),
    ("numbers", "Give me ten names", "Give me twelve names"),
    ("numbers", "Who was Henry VII?", "Who was Henry VIII?"),
    ("numbers", "What is new in Python 3.11?", "What is new in Python 3.12?"),
    ("numbers", "Convert -40 celsius to fahrenheit", "Convert 40 celsius to fahrenheit"),
    ("numbers", "What is 10^-3 in decimal?", "What is 10^3 in decimal?"),
    ("numbers", "Is a balance of -$200 a problem?", "Is a balance of $200 a problem?"),
    ("numbers", "How much is .5 of a cup in ml?", "How much is 5 of a cup in ml?"),
    ("numbers", "What is (2+3)*4?", "What is 2+3*4?"),
    ("numbers", "What is 5! in math?", "What is 5 in math?"),
    ("numbers", "Is a != b in Python?", "Is a = b in Python?"),
    ("numbers", "What does && do in bash?", "What does || do in bash?"),
    ("numbers", "How do I use the & operator in C?", "How do I use the | operator in C?"),
    ("numbers", "What does ~ mean in bash?", "What does @ mean in bash?"),
    ("numbers", "What does ?? mean in JS?", "What does ?. mean in JS?"),
    ("numbers", "What does 😂 mean in a text?", "What does 🙃 mean in a text?"),
    ("numbers", "Who plays the note C♯ here?", "Who plays the note C♭ here?"),
    ("numbers", "请假5天需要谁批准?", "请假30天需要谁批准?"),
    ("numbers", "10일 휴가를 어떻게 신청하나요?", "20일 휴가를 어떻게 신청하나요?"),
    ("numbers", "Сколько стоит доставка 5к\u0433?", "Сколько стоит доставка 50к\u0433?"),
    ("numbers", "मेरे पिता को पत्र लिखो", "मेरे पोते को पत्र लिखो"),
    ("numbers", "Who has over 100 orders?", "Who has 100 orders?"),
    ("wording", "Tell me if this is rude 😂", "Tell me if this is rude 🙃"),
    ("numbers", "How much is 1½ cups in ml?", "How much is 2½ cups in ml?"),
    ("wording", "Arguments for nuclear energy", "Arguments against nuclear energy"),
    ("wording", "What city was Einstein born in?", "What country was Einstein born in?"),
    ("units", "Convert 5 km to miles", "Convert 5 m to miles"),
    ("units", "How many days does it take?", "How many weeks does it take?"),
    ("units", "What does it cost, $5 or more?", "What does it cost, €5 or more?"),
    ("units", "How tall is the tower?", "How tall is the tower in feet?"),
    ("dates", "Is the shop open on Sunday?", "Is the shop open on Monday?"),
    ("dates", "What is the weather today?", "What is the weather tomorrow?"),
    ("dates", "What happened in June?", "What happened in July?"),
    ("dates", "Is it open from Monday to Friday?", "Is it open from Friday to Monday?"),
    ("dates", "Is it open Monday to Friday?", "Is it open Friday to Monday?"),
    ("dates", "Rain between May and July?", "Rain between July and May?"),
    ("negation", "Why choose Redis and not Postgres?", "Why choose Postgres and not Redis?"),
    ("negation", "Can I take cod but not eel?", "Can I take eel but not cod?"),
    ("negation", "Tea without milk and with sugar", "Tea with milk and without sugar"),
    (
        "negation",
        "List users who have not paid and are active",
        "List users who have paid and are not active",
    ),
    ("negation", "How do I reset my password?", "How do I NOT reset my password?"),
    ("negation", "Can I bake with eggs?", "Can I bake without eggs?"),
    ("negation", "Who may enter?", "Who can't enter?"),
    ("opposites", "How do I enable dark mode?", "How do I disable dark mode?"),
    ("opposites", "How do I turn the heating on?", "How do I turn the heating off?"),
    ("opposites", "What raises blood pressure?", "What lowers blood pressure?"),
    ("opposites", "Should I eat before a run?", "Should I eat after a run?"),
    ("quoted", 'Translate "good night"', 'Translate "good morning"'),
    ("quoted", "What does `a = 1` do?", "What does `a = 2` do?"),
    ("quoted", "Fix this:\n```\nx = 1\n```", "Fix this:\n```\nx = 2\n```"),
    ("quoted", "What does the regex `a.` match?", "What does the regex `a` match?"),
    (
        "quoted",
        "What does this print?\n```\nfor i in x:\n    f()\n    g()\n```",
        "What does this print?\n```\nfor i in x:\n    f()\ng()\n```",
    ),
    ("identifiers", "What does os.path.join do?", "What does os.path.split do?"),
    ("identifiers", "What is in /etc/passwd?", "What is in /etc/shadow?"),
    ("identifiers", "Where is order #48213?", "Where is order #48231?"),
    ("identifiers", "What does --force do?", "What does --quiet do?"),
    ("identifiers", "Open https://example.com/a", "Open https://example.com/b"),
    ("identifiers", "What does git branch -d do?", "What does git branch -D do?"),
    ("identifiers", "What does useEffect do?", "What does useMemo do?"),
    ("identifiers", "Explain C++ pointers", "Explain C# pointers"),
    ("names", "What is the capital of Austria?", "What is the capital of Australia?"),
    ("names", "Does Apple pay a dividend?", "Does Microsoft pay a dividend?"),
    ("names", "Show his salary", "Show her salary"),
    ("names", "Where does my boss live?", "Where does his boss live?"),
    ("direction", "Is plan A better than plan D?", "Is plan D better than plan A?"),
    ("direction", "Does A* beat B in speed?", "Does B beat A* in speed?"),
    ("direction", "A flight from Boston to Denver", "A flight from Denver to Boston"),
    ("direction", "How do I redirect HTTP to HTTPS?", "How do I redirect HTTPS to HTTP?"),
    ("direction", "Copy files from S3 to EC2", "Copy files from EC2 to S3"),
    ("direction", "Who does Tybalt kill?", "Who kills Tybalt?"),
    ("direction", "What causes inflation?", "What does inflation cause?"),
    ("direction", "Can a dog chase a cat?", "Can a cat chase a dog?"),
    ("direction", 'Rename "a" to "b"', 'Rename "b" to "a"'),
    ("question", "Why do black holes form?", "When do black holes form?"),
    ("question", "Can I repay my loan early?", "Must I repay my loan early?"),
    ("question", "When can I cancel my plan?", "When must I cancel my plan?"),
    ("question", "What can I bring?", "What do I need to bring?"),
    ("question", "Who is the president?", "Who was the president?"),
    ("language", "What is the weather like in Berlin?", "Wie ist das Wetter in Berlin?"),
    ("language", "今日はいい天気ですね", "Сегодня хорошая погода"),
    ("wording", "How do I boil an egg?", "How do I fry an egg?"),
    ("wording", "How do I write a resume?", "How do I write a resume for a nurse?"),
    ("wording", "hello", "goodbye"),
]

AGREE = [
    ("How do I reset my password?", "Hi, how can I reset my password? Thanks in advance!"),
    ("How do I reset my password?", "What is the way to reset my password?"),
    ("How long is 1,000 km?", "How long is 1000 kilometres?"),
    ("When did World War II end?", "When did the Second World War end?"),
    ("How do I turn off the heating at night?", "How can I switch the heating off at night?"),
    ("Can a pawn move backwards in chess?", "In chess, can a pawn move backward?"),
    ("How many hours of sleep do adults need?", "How much sleep do adults need?"),
    ("Who chased the cat?", "Who was chasing the cat?"),
    ("What caused the war?", "What were the causes of the war?"),
    ("How do I delete a file?", "What are the steps to remove a file?"),
    ("What colour is the sky?", "What color is the sky?"),
    ("How do I activate two-factor authentication?", "How do I enable 2FA?"),
    ("cheapest flight boston to denver", "What is the cheapest flight from Boston to Denver?"),
    ("How far is Mars from the Sun?", "What is the distance between Mars and the Sun?"),
    ("今日の天気は?", "今日の天気は?"),
    ("今日の天気は?", "今日の天気は\uff1f"),
    ("How do I reset my password?", "How do I reset my password 🙏"),
    ("How do I reset my password?", "How do I reset my password😊!!!"),
    ("How do I reset my password?", "Hi! How do I reset my password…? Thanks 🙏"),
    ("How do I reset my password?", "How do I reset my password (please)? :)"),
    ("¿Cómo cambio mi contraseña?", "Cómo cambio mi contraseña"),
    ("What's the capital of France?", "What\u2019s the capital of France"),
    ("What does \u2018inertia\u2019 mean?", 'What does "inertia" mean?'),
    ("What happened in 2024?", "What happened in 2024!"),
    ("Who are Tom & Jerry?", "Who are Tom and Jerry?"),
    ("How do I bake a cake \u2013 step by step?", "How do I bake a cake, step by step?"),
    ("What is \u22125 + .5?", "What is -5 + 0.5?"),
    ("What is on pages 5\u201310?", "What is on pages 5 - 10?"),
    ("Is it open Monday to Friday?", "Is it open from Monday to Friday?"),
    ("Is it a good idea to buy a house?", "Is It A Good Idea To Buy A House?"),
    ("Why doesn't Redis support joins?", "Why does Redis not support joins?"),
    ("Is it not safe to eat raw eggs?", "Isn't it safe to eat raw eggs?"),
    ("When was Einstein born?", "Einstein: when was he born?"),
    ("How can I stop smoking?", "What must I do to stop smoking?"),
    ("What is the size of Berlin?", "What is the size of the city of Berlin?"),
]


@pytest.mark.parametrize(("guard", "one", "other"), DIFFER, ids=lambda value: str(value)[:30])
def test_refused(guard: GuardName, one: str, other: str) -> None:
    """The guard refuses by itself, and in either direction; all together refuse, too."""
    new, old = read(one), read(other)
    for first, second in ((new, old), (old, new)):
        refusal = disagreement(first, second, (guard,))
        assert refusal is not None
        assert guard == refusal[0]
        assert disagreement(first, second) is not None


@pytest.mark.parametrize(("one", "other"), AGREE, ids=lambda value: str(value)[:30])
def test_agreed(one: str, other: str) -> None:
    """No guard refuses a plain paraphrase, in either direction."""
    assert (None, None) == (
        disagreement(read(one), read(other)),
        disagreement(read(other), read(one)),
    )


def test_every_guard_is_proved() -> None:
    """There is a refusal above for each guard."""
    assert set(GUARDS) == {guard for guard, _, _ in DIFFER}


PIECES = """how do I not turn on off 15 50 miles km from to A B `x` "y" -3 $ 5% the ? . , II may May
don't can't without half an hour #12 a_b /etc/x C++ 今日 über the's '' ``` \ue000 \x1e second 1,000
1.5k 0x1f 3rd -- - what's -.5 .5 ! != && | ( ) & 😊 ✓ 5天 \u22125 \u2013 ‰ ½ ́ his
she Monday and & Tom"""
TEXTS = st.text(max_size=200) | st.lists(
    st.sampled_from([*PIECES.split(), "\n"]),
    max_size=20,
).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_a_text_agrees_with_itself(text: str) -> None:
    """Whatever a text holds, it can be read, and no guard refuses it for itself."""
    reading = read(text)
    assert disagreement(reading, read(text)) is None


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_what_is_refused_does_not_depend_on_the_order(one: str, other: str) -> None:
    """If one text may not stand for the other, the other may not stand for it."""
    new, old = read(one), read(other)
    assert (disagreement(new, old) is None) == (disagreement(old, new) is None)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_two_numbers_never_agree(one: int, other: int) -> None:
    """Questions that differ in a number are two questions."""
    texts = [f"How many people live in a town of {number} houses?" for number in (one, other)]
    refusal = disagreement(read(texts[0]), read(texts[1]))
    assert (one == other) == (refusal is None)


def test_reasons_hold_no_text() -> None:
    """What a guard says of its refusal is safe to log."""
    for guard, one, other in DIFFER:
        refusal = disagreement(read(one), read(other), (guard,))
        assert refusal is not None
        words = {word.strip("?.,").lower() for word in f"{one} {other}".split()}
        assert words & set(refusal[1].lower().split()) <= {"a", "in", "an", "another", "or", "and"}
