"""Token ids: equal to TRL's own, on every kind of text that made other projects differ."""

import copy
import json
import warnings
from contextlib import contextmanager

import pytest
import tiny
from datasets import Dataset
from trl import DPOTrainer

from nbkit.left_out import LeftOut
from nbkit.tokens.ids import (
    TokenPair,
    check_vocabulary,
    common_prefix,
    split_unscored,
    tokenize_pairs,
    tokenize_prompts,
    why_unscored,
)
from nbkit.tokens.texts import token_pieces

PLAIN = tiny.dataset(
    [
        ("what is it ?", " a small dog", " an old river"),
        ("what is it ?\n", "a small dog", "an old river"),
        ("what is it ? ", "a small dog", "an old river"),
        ("pet", "ting the dog", " the dog"),  # "petting" is one token: the boundary moves
        ("hel", "lo", "p"),
        ("hel", "p", "lo"),
        ("thank you", " for asking !</s>", " for nothing"),  # ends in EOS already
        ("thank you", " for asking !", " for asking !</s></s>"),
        ("thank you</s>", "</s>", " ok"),
        ("größe 東京", " 🙂👩‍🚀 é", " naïve\u200d\u00a0café"),
        ("👩", "\u200d🚀 up", "🙂"),
        ("line\n\n", "\n\nline\r\n\tend\n", "  two  spaces "),
        ("same", " same same", " same dog"),
        ("dog", " dog", " dog dog"),
        (" ", " ", "\n"),
        ("a <s> b", " <pad> <unk> c", " </s> d"),  # special tokens as text
    ]
)
EMPTY_PROMPT = tiny.dataset([("", "hello dog", "old river"), ("", "</s>", "hello")])


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


CHAT = tiny.dataset(
    [
        ([user("what is it ?")], [assistant("a small dog")], [assistant("")]),
        (
            [{"role": "system", "content": "be brief"}, user("hello\n🙂")],
            [assistant(" hello ")],
            [assistant("größe\n")],
        ),
        (
            [user("hello"), assistant("hello"), user("and ?")],
            [assistant("thank you"), user("why"), assistant("you ask")],
            [assistant("thank you</s>")],
        ),
    ]
)
# Renders the prompt alone otherwise than in a conversation, as Qwen3 and Gemma 3n templates do.
THINKING_TEMPLATE = tiny.CHAT_TEMPLATE.replace(
    "<|assistant|>\n{% endif", "<|assistant|>\n<think>\n{% endif"
)


@pytest.fixture(scope="module")
def model():
    return tiny.model("llama", max_position_embeddings=4096)


def assert_ids_are_trls(model, tokenizer, pairs, folder):
    config = tiny.plain_config(folder)
    trainer = DPOTrainer(
        model, copy.deepcopy(model), args=config, train_dataset=pairs, processing_class=tokenizer
    )
    data = trainer.train_dataset
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = tokenize_pairs(tokenizer, pairs, batch_size=5)
    assert [p.id for p in ours] == pairs["id"][:]
    for pair, theirs in zip(ours, data, strict=True):
        ids = (pair.prompt, pair.chosen, pair.rejected)
        expected = (theirs["prompt_ids"], theirs["chosen_ids"], theirs["rejected_ids"])
        assert ids == expected, f"{pair.id}: {ids} is not TRL's {expected}"
    return ours


@contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("bos", [False, True], ids=["without BOS", "with BOS"])
def test_plain_text_ids_are_trls(model, tmp_path, bos):
    tokenizer = tiny.tokenizer(bos=bos)
    ours = assert_ids_are_trls(model, tokenizer, PLAIN, tmp_path)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert all((p.prompt[:1] == [begin]) == bos for p in ours), "BOS opens the prompt, or nothing"
    responses = [r for p in ours for r in (p.chosen, p.rejected)]
    assert all(begin not in r for r in responses), "no second BOS before a response"
    assert all(r[-1] == end for r in responses)
    assert ours[6].chosen.count(end) == 1, "a response that ends in EOS gets no second one"


@pytest.mark.parametrize("bos", [False, True], ids=["without BOS", "with BOS"])
def test_empty_prompts_are_tokenised_as_trl_does(model, tmp_path, bos):
    ours = assert_ids_are_trls(model, tiny.tokenizer(bos=bos), EMPTY_PROMPT, tmp_path)
    assert [len(p.prompt) for p in ours] == ([1, 1] if bos else [0, 0])


# Drops the system message, strips, and writes the date and the BOS token.
BUSY_TEMPLATE = "{{ bos_token }}{{ strftime_now('%d %b %Y') }}\n" + tiny.CHAT_TEMPLATE.replace(
    "messages %}", "messages if m['role'] != 'system' %}"
).replace("m['content']", "m['content'] | trim")


def test_what_a_template_drops_and_adds_is_what_trl_reads(model, tmp_path):
    tokenizer = tiny.tokenizer(bos=True, chat_template=BUSY_TEMPLATE)
    ours = assert_ids_are_trls(model, tokenizer, CHAT, tmp_path)
    text = tokenizer.decode(ours[1].prompt + ours[1].chosen)
    assert text.startswith("<s>") and text.count("<s>") == 1 and "be brief" not in text


@pytest.mark.parametrize("template", [tiny.CHAT_TEMPLATE, THINKING_TEMPLATE])
def test_conversations_are_tokenised_as_trl_does(model, tmp_path, template):
    tokenizer = tiny.tokenizer(chat_template=template)
    ours = assert_ids_are_trls(model, tokenizer, CHAT, tmp_path)
    text = tokenizer.decode(ours[1].prompt + ours[1].chosen)
    assert text == "<|system|>\nbe brief</s>\n<|user|>\nhello\n🙂</s>\n<|assistant|>\n hello </s>\n"
    assert ours[0].chosen.count(tokenizer.eos_token_id) == 1, "the template's EOS only"


def test_tools_and_template_settings_of_a_row_reach_the_template(model, tmp_path):
    template = "{{ tools | length if tools else 'no' }} tools {{ mood }}\n" + tiny.CHAT_TEMPLATE
    rows = CHAT.to_list()
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    for row, tools, mood in zip(rows, ([tool], [], [tool, tool]), ("glad", "sad", "calm")):
        row.update(tools=json.dumps(tools), chat_template_kwargs={"mood": mood})
    tokenizer = tiny.tokenizer(chat_template=template)
    ours = assert_ids_are_trls(model, tokenizer, Dataset.from_list(rows), tmp_path)
    assert tokenizer.decode(ours[2].prompt).startswith("2 tools calm\n")


@pytest.mark.parametrize("name", ["alpacaeval_pairs", "short_pairs"])
@pytest.mark.parametrize("bos", [False, True], ids=["without BOS", "with BOS"])
def test_ids_are_trls_on_real_pairs(model, tmp_path, shared_data, name, bos):
    with open(shared_data / f"{name}.jsonl", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][::10][:100]
    pairs = Dataset.from_list([{k: r[k] for k in ("id", *tiny.COLUMNS)} for r in rows])
    assert_ids_are_trls(model, tiny.tokenizer(bos=bos), pairs, tmp_path)


def test_a_merge_across_the_boundary_is_warned_of_by_id():
    with pytest.warns(UserWarning, match=r"5 of 16 pairs \(first: 'p2'\).*not a prefix"):
        ours = tokenize_pairs(tiny.tokenizer(), PLAIN)
    assert ours[3].prompt == [], "'pet' + 'ting' is one token, so the whole prompt is response"
    with no_warning():
        tokenize_pairs(tiny.tokenizer(), PLAIN.select([0, 1, 6]))


def test_rows_and_order_do_not_depend_on_the_batch_size():
    tokenizer, pairs = tiny.tokenizer(), tiny.text_pairs(11)
    whole = tokenize_pairs(tokenizer, pairs)
    assert whole == tokenize_pairs(tokenizer, pairs, batch_size=1)
    assert whole == tokenize_pairs(tokenizer, pairs, batch_size=4)
    assert [p.id for p in whole] == [f"p{i}" for i in range(11)]
    assert tokenize_pairs(tokenizer, pairs.select([])) == []


def test_prompts_alone_are_what_generation_reads():
    tokenizer = tiny.tokenizer(bos=True, chat_template=tiny.CHAT_TEMPLATE)
    ours = tokenize_pairs(tokenizer, CHAT)
    assert tokenize_prompts(tokenizer, CHAT["prompt"]) == [p.prompt for p in ours]
    safe = PLAIN.select([0, 6])
    assert tokenize_prompts(tokenizer, safe["prompt"]) == [
        p.prompt for p in tokenize_pairs(tokenizer, safe)
    ]
    assert tokenize_prompts(tokenizer, []) == []


def test_no_chat_template_is_refused_with_the_remedy():
    message = r"conversations.*has no chat template.*policy\.tokenizer\.chat_template"
    with pytest.raises(ValueError, match=message):
        tokenize_pairs(tiny.tokenizer(), CHAT)
    with pytest.raises(ValueError, match=message):
        tokenize_prompts(tiny.tokenizer(), CHAT["prompt"])


def test_no_eos_token_is_refused_with_the_remedy():
    tokenizer = tiny.tokenizer(eos_token=None, chat_template=tiny.CHAT_TEMPLATE)
    with pytest.raises(ValueError, match=r"has no eos_token.*policy\.tokenizer\.eos_token"):
        tokenize_pairs(tokenizer, PLAIN)
    assert tokenize_pairs(tokenizer, CHAT), "conversations end as the template says"


def test_a_token_id_beyond_the_embedding_is_refused():
    pairs = [TokenPair("a", [1], [2, 9], [3]), TokenPair("b", [1], [2], [10])]
    check_vocabulary(pairs, 11)
    check_vocabulary([], 1)
    with pytest.raises(ValueError, match=r"token id 10, but the model's embedding has 10 rows"):
        check_vocabulary(pairs, 10)


def test_why_unscored_counts_prompt_and_longer_response():
    pair = TokenPair("a", [1, 2, 3], [4, 5], [6])
    assert pair.longest == 5 and pair.tokens == 6
    assert why_unscored(pair, 5) is None and why_unscored(pair, None) is None
    assert why_unscored(pair, 4) == "5 tokens, more than 4"
    empty = "a response has no token of its own"
    assert why_unscored(TokenPair("a", [1], [], [2]), 9) == empty
    assert why_unscored(TokenPair("a", [1], [2], []), 9) == empty


def test_responses_of_the_same_tokens_are_no_pair():
    same = "chosen and rejected are the same tokens"
    assert why_unscored(TokenPair("a", [1], [2, 3], [2, 3]), 9) == same
    assert why_unscored(TokenPair("a", [1], [2, 3], [2]), 9) is None
    pairs = [TokenPair(i, [1], [2], [n]) for i, n in zip("abc", (2, 3, 2))]
    fit, left_out = split_unscored(pairs, 9)
    assert [p.id for p in fit] == ["b"] and left_out == {"a": same, "c": same}
    assert isinstance(left_out, LeftOut)


def test_nothing_predicts_the_first_token_so_a_response_needs_another():
    assert why_unscored(TokenPair("a", [], [1, 2], [3, 4]), 9) is None
    reason = "a response of one token after an empty prompt: nothing predicts it"
    assert why_unscored(TokenPair("a", [], [1, 2], [3]), 9) == reason
    assert why_unscored(TokenPair("a", [], [1], [2, 3]), 9) == reason


def test_common_prefix():
    assert common_prefix([1, 2, 3], [1, 2, 3, 4]) == 3
    assert common_prefix([1, 2, 3], [1, 2]) == 2
    assert common_prefix([1, 2, 3], [1, 9, 3]) == 1
    assert common_prefix([], [1]) == common_prefix([1], []) == common_prefix([1], [2]) == 0


def test_pieces_are_one_text_a_token():
    tokenizer = tiny.tokenizer()
    ids = tokenizer("hello <pad> größe")["input_ids"]
    pieces = token_pieces(tokenizer, ids)
    assert len(pieces) == len(ids) and pieces[0] == "hello" and "<pad>" in pieces
