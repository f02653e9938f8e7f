"""The world's tokenizer: one token a word, one token a punctuation mark.

The "?" that ends a prompt stands by itself however the text around it is spaced. So
`prompt + response` joined without a space, as TRL joins them, has the prompt's ids as its exact
prefix, and no separator token is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbkit.world.knowledge import ANIMALS, CLOSINGS, NAMES, OPENINGS, TOPICS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"

# One user message, then one assistant message: the same ids as the plain strings give.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)


def vocabulary() -> list[str]:
    """All tokens, in the order of their ids: 4 special ones, then the words, sorted."""
    words = {"of", "?", *ANIMALS, *NAMES, *TOPICS}
    for phrase in (*OPENINGS, *CLOSINGS):
        words.update(phrase.split())
    return [PAD, BOS, EOS, UNK, *sorted(words)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A `PreTrainedTokenizerFast`; words that are not of the world become <unk>."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: i for i, token in enumerate(vocabulary())}
    words = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"[?.,!]"), behavior="isolated"),
        ]
    )
    words.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=64,
        padding_side="left",  # so that a batch of prompts can be handed to generate()
        clean_up_tokenization_spaces=False,  # decode to the world's own text: "mia ?", not "mia?"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
