"""What chat templates and tokenizers do to texts: refusals by name, losses and doubles by count."""

import json
import re
import warnings
from datetime import datetime

import pytest
import tiny
from datasets import Dataset
from tokenizers import processors
from transformers import AutoTokenizer

import nbkit as nb
from nbkit.tokens.ids import tokenize_pairs, tokenize_prompts
from nbkit.tokens.templates import lost_turn, render

# As in Llama 3.2: the date of today, unless told another.
DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
    "{% endif %}today: {{ date_string }}\n" + tiny.CHAT_TEMPLATE
)
TRIMMED = tiny.CHAT_TEMPLATE.replace("m['content']", "m['content'] | trim")
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + tiny.CHAT_TEMPLATE
)
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% endfor %}" + tiny.CHAT_TEMPLATE
)
# As of models that think: what was thought in earlier turns, and the system's turn, are dropped.
FORGETFUL = (
    "{% for m in messages if m['role'] != 'system' %}<|{{ m['role'] }}|>\n"
    "{{ m['content'].split('</think>')[-1] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def turns(*texts, system=None):
    """user, assistant, user ... with these texts, after a system message if there is one."""
    said = [{"role": r, "content": t} for r, t in zip(["user", "assistant"] * len(texts), texts)]
    return ([{"role": "system", "content": system}] if system else []) + said


def answer(text):
    return [{"role": "assistant", "content": text}]


def chat(*prompts, chosen=" a dog", rejected=" a river"):
    return tiny.dataset([(prompt, answer(chosen), answer(rejected)) for prompt in prompts])


def said(call, *args, **how):
    """What a call warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*args, **how)
    return [str(w.message) for w in caught if w.category is UserWarning]


def tokens(template=tiny.CHAT_TEMPLATE, **how):
    return tiny.tokenizer(chat_template=template, **how)


# --- refusals -----------------------------------------------------------------------------------


def test_a_conversation_that_the_template_refuses_is_named_with_the_remedy():
    rows = chat(turns("hello"), turns("hello", system="be brief"), turns("what"))
    message = (
        "^Pair 'p1': the chat template refuses the conversation, whose roles are 'system', 'user': "
        "System role not supported. Put the text of the system message at the head of the first "
        "user message.$"
    )
    with pytest.raises(ValueError, match=message):
        tokenize_pairs(tokens(NO_SYSTEM), rows)
    with pytest.raises(ValueError, match="^Prompt 1: the chat template refuses.*'system', 'user'"):
        tokenize_prompts(tokens(NO_SYSTEM), rows["prompt"])
    user = {"role": "user", "content": "hello"}
    doubled = chat(turns("hello"), [user, user])
    with pytest.raises(ValueError, match="Pair 'p1'.*must alternate.*Join neighbouring messages"):
        tokenize_pairs(tokens(ALTERNATING), doubled)
    with pytest.raises(ValueError, match="Pair 'p1'.*must alternate.*head of the first user"):
        tokenize_pairs(tokens(ALTERNATING), rows)
    broken = tokens("{{ messages[0]['content'] + 1 }}")
    with pytest.raises(ValueError, match=r"Pair 'p0'.*'user'.*policy\.tokenizer\.chat_template"):
        tokenize_pairs(broken, rows)


def test_a_long_refusal_is_cut_short():
    loud = tokens("{{ raise_exception(messages[0]['content']) }}")
    with pytest.raises(ValueError) as caught:
        tokenize_pairs(loud, chat(turns("hello " * 10_000)))
    assert len(str(caught.value)) < 500


# --- what is lost and what is added -------------------------------------------------------------


def test_answers_that_differ_only_in_what_the_template_strips_are_left_out():
    policy = tiny.policy(tokens=tokens(TRIMMED))
    pairs = chat(turns("hello"), chosen="a dog", rejected=" a dog\n")
    both = Dataset.from_list([*chat(turns("what")).to_list(), {**pairs[0], "id": "same"}])
    with pytest.warns(UserWarning, match="1 of 2 pairs are left out.*'same': chosen and rejected"):
        table = nb.response_logprobs(policy, both, progress=False)
    assert table.index.tolist() == ["p0"]
    assert table.attrs["left_out"] == {"same": "chosen and rejected are the same tokens"}


def test_text_that_the_template_drops_is_counted():
    rows = chat(
        turns("hello"), turns("hello", system="be brief"), turns("a", "<think>dog</think>b", "c")
    )
    lost = (
        "2 of 3 pairs (first: 'p1') lose text in the chat template (a message of the system in the "
        "first), so the model does not read all of them."
    )
    assert said(tokenize_pairs, tokens(FORGETFUL), rows) == [lost]
    (of_prompts,) = said(tokenize_prompts, tokens(FORGETFUL), rows["prompt"])
    assert of_prompts.startswith("2 of 3 prompts (first: 1) lose text")
    thought = chat(turns("hello"), chosen="<think>small</think>a dog")
    (of_answer,) = said(tokenize_pairs, tokens(FORGETFUL), thought)
    assert "a message of the assistant" in of_answer
    assert said(tokenize_pairs, tokens(), rows) == []
    spaces = chat(turns(" hello\n"))
    assert said(tokenize_pairs, tokens(TRIMMED), spaces) == [], "spaces are no loss"


def test_lost_turn_looks_past_spaces():
    conversation = turns("what is\n it ?", "a dog")
    assert lost_turn(conversation, "<u>what is it ?<a>a  dog") is None
    assert lost_turn(conversation, "<u>what is it ?<a>a  do") == "assistant"


def test_special_tokens_in_the_texts_are_said_once_with_a_count():
    quoting = [("what is </s> it", " a dog", " a river"), ("what", " a <pad> b", " c"),
               ("what", " a dog</s>", " a river</s>"), ("what", " a", " b")]  # fmt: skip
    message = (
        "2 of 4 pairs (first: 'p0') hold the text of special tokens such as '</s>', which becomes "
        "the token itself (as in TRL). Take it out where it was only quoted."
    )
    assert said(tokenize_pairs, tiny.tokenizer(), tiny.dataset(quoting)) == [message]
    injected = chat(turns("hello"), turns("hello</s>\nwhat"), chosen="a</s> b")
    (of_chat,) = said(tokenize_pairs, tokens(), injected)
    assert of_chat.startswith("2 of 2 pairs (first: 'p0') hold the text of special tokens")
    (asked,) = said(tokenize_prompts, tiny.tokenizer(), ["what", "is </s> it"])
    assert asked.startswith("1 of 2 prompts (first: 1) hold the text of special tokens")
    apart = tiny.tokenizer(split_special_tokens=True)
    assert said(tokenize_pairs, apart, tiny.dataset(quoting)) == []


def test_two_bos_are_named():
    pairs = tiny.dataset([("what", " a", " b"), ("<s>hello the ", "dog</s>", "cat</s>")])
    message = (
        "1 of 2 pairs (first: 'p1') begin with '<s>' twice, once from the text and once from the "
        "tokenizer. Take it out of the text."
    )
    assert message in said(tokenize_pairs, tiny.tokenizer(bos=True), pairs)
    assert not any("twice" in told for told in said(tokenize_pairs, tiny.tokenizer(), pairs))
    (of_prompt,) = said(tokenize_prompts, tiny.tokenizer(bos=True), ["<s>what"])
    assert of_prompt.startswith("1 of 1 prompts (first: 0) begin with '<s>' twice")


def test_a_tokenizer_that_writes_eos_is_named():
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
    )
    pairs = tiny.dataset([("what", " a dog", " a river")] * 3)
    message = (
        "3 of 3 pairs (first: 'p0') get '</s>' from the tokenizer itself at the end of every text, "
        "so prompts end in it and responses have it twice. Set `policy.tokenizer.add_eos_token = "
        "False`."
    )
    assert said(tokenize_pairs, tokenizer, pairs) == [message]
    assert len(said(tokenize_prompts, tokenizer, ["what"])) == 1
    tokenizer.add_eos_token = False
    assert said(tokenize_pairs, tokenizer, pairs) == []


def test_texts_rendered_before_are_named():
    rendered = "<|user|>\nhello</s>\n<|assistant|>\n"
    plain = tiny.dataset([(rendered, "dog</s>", "cat</s>")])
    assert said(tokenize_pairs, tokens(), plain) == [], "as plain text they are what they should be"
    message = (
        "1 of 2 pairs (first: 'p1') look as if the chat template had rendered them already ('</s>"
        "\\n<|assistant|>' is in them), and now it renders them again. Load them as plain text, "
        "without `chat=True`."
    )
    assert said(tokenize_pairs, tokens(), chat(turns("hello"), turns(rendered))) == [message]


# --- plain text or conversations ----------------------------------------------------------------


def test_plain_text_with_a_chat_tokenizer_is_a_choice_that_is_named():
    rows = [{"id": "a", "prompt": "what is it ?", "chosen": " a dog", "rejected": " a river"}]
    policy = tiny.policy(tokens=tokens())
    plain = nb.load_pairs(rows)
    raw = nb.response_logprobs(tiny.policy(), plain, progress=False)
    (message,) = said(nb.response_logprobs, policy, plain, progress=False)
    assert message == (
        "1 of 1 pairs (first: 'a') are plain text, and the model reads them as they are, without "
        "the chat template of its tokenizer. If it is to see conversations: `nb.load_pairs(..., "
        "chat=True)`. If raw text is meant: `policy.tokenizer.chat_template = None`."
    )
    as_chat = nb.load_pairs(rows, chat=True)
    assert said(nb.response_logprobs, policy, as_chat, progress=False) == []
    table = nb.response_logprobs(policy, as_chat, progress=False)
    assert table.tokens_hash["a"] != raw.tokens_hash["a"]
    policy.tokenizer.chat_template = None
    assert said(nb.response_logprobs, policy, plain, progress=False) == []
    assert nb.response_logprobs(policy, plain, progress=False).equals(raw)


def test_plain_prompts_with_a_chat_tokenizer_are_a_choice_that_is_named():
    policy = tiny.policy(tokens=tokens())
    how = dict(max_new_tokens=2, progress=False)
    (message,) = said(nb.sample, policy, ["what is it ?"], **how)
    assert "1 of 1 prompts (first: 0) are plain text" in message
    assert "`[{'role': 'user', 'content': prompt}]`" in message
    assert said(nb.sample, policy, [turns("what is it ?")], **how) == []


def test_a_template_that_makes_the_same_tokens_is_no_choice():
    policy = nb.load_policy("world/small", device="cpu")
    assert policy.tokenizer.chat_template
    assert said(nb.response_logprobs, policy, nb.world.pairs(3), progress=False) == []


def test_the_line_that_asked_is_the_one_that_is_warned_of():
    policy = tiny.policy(tokens=tokens())
    with pytest.warns(UserWarning, match="plain text") as caught:
        nb.response_logprobs(policy, tiny.text_pairs(2), progress=False)
    assert caught[0].filename == __file__


# --- the date -----------------------------------------------------------------------------------


def test_the_date_in_a_template_is_read_once_for_a_policy():
    tokenizer, asked = tokens(DATED), [turns("hello")]
    (today,) = render(tokenizer, asked, ["a"])
    assert today.startswith(f"today: {datetime.now():%d %b %Y}\n")
    tokenizer.template_time = datetime(2024, 7, 26)
    (fixed,) = render(tokenizer, asked, ["a"])
    assert fixed.startswith("today: 26 Jul 2024\n"), "it stays as it was read"
    (told,) = render(tokenizer, asked, ["a"], [{"date_string": "1 May"}])
    assert told.startswith("today: 1 May\n")


def test_another_date_gives_other_tokens():
    policy, pairs = tiny.policy(tokens=tokens(DATED)), chat(turns("hello"))
    how = dict(progress=False)
    policy.tokenizer.template_time = datetime(2024, 7, 26)
    table = nb.response_logprobs(policy, pairs, **how)
    assert table.equals(nb.response_logprobs(policy, pairs, **how))
    policy.tokenizer.template_time = datetime(2024, 7, 27)
    later = nb.response_logprobs(policy, pairs, **how)
    assert (later.tokens_hash != table.tokens_hash).all()


# --- what rows tell the template ----------------------------------------------------------------


def test_tools_and_settings_as_objects_equal_the_same_as_text():
    template = "{{ tools | tojson }} {{ mood | default('none') }} {{ calm | default('none') }}\n"
    tokenizer = tokens(template + tiny.CHAT_TEMPLATE)
    tools = [[{"name": "look", "parameters": {"city": "text"}}],
             [{"name": "add", "parameters": {"a": "number"}}]]  # fmt: skip
    more = [{"mood": "glad"}, {"calm": False}]
    rows = chat(turns("hello"), turns("what")).to_list()
    objects = [{**r, "tools": t, "chat_template_kwargs": m} for r, t, m in zip(rows, tools, more)]
    texts = [
        {**r, "tools": json.dumps(t), "chat_template_kwargs": json.dumps(m)}
        for r, t, m in zip(rows, tools, more)
    ]
    assert tokenize_pairs(tokenizer, Dataset.from_list(objects)) == tokenize_pairs(
        tokenizer, Dataset.from_list(texts)
    )
    text = tokenizer.decode(tokenize_pairs(tokenizer, Dataset.from_list(objects))[1].prompt)
    assert re.match(r'\[\{"name": "add", "parameters": \{"a": "number"\}\}\] none False\n', text)
    bad = Dataset.from_list([{**rows[0], "tools": "[{"}])
    with pytest.raises(ValueError, match="^Pair 'p0': its tools.* are no JSON"):
        tokenize_pairs(tokenizer, bad)


def test_a_saved_tokenizer_knows_no_time(tmp_path):
    tokenizer = tokens(DATED)
    render(tokenizer, [turns("hello")], ["a"])
    tokenizer.save_pretrained(tmp_path)
    assert not hasattr(AutoTokenizer.from_pretrained(tmp_path), "template_time")
