"""Tiny real models and tokenizers, made on the spot, for the tests of the scoring core."""

import copy
import dataclasses
import random
from pathlib import Path

import torch
import transformers as tf
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from trl import DPOConfig

from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair

WORDS = (
    "hello petting the small brown dog who sleeps near an old river café naïve größe 東京 🙂 👩‍🚀 "
    "walks quickly , and says : thank you for asking ! what is it ? 12 + 30 = 42 . answer"
).split()
SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
COLUMNS = ("prompt", "chosen", "rejected")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
VOCABULARY = 1100  # larger than one tile of the LM head, and no multiple of it
BASE = dict(
    vocab_size=VOCABULARY, hidden_size=48, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, max_position_embeddings=256, initializer_range=0.2,
)  # fmt: skip
GROUPED = dict(BASE, num_key_value_heads=2)
HEADS = dict(GROUPED, head_dim=16)
GPT2 = dict(
    vocab_size=VOCABULARY, n_embd=48, n_layer=2, n_head=4, n_positions=256, initializer_range=0.2,
    bos_token_id=2, eos_token_id=3,
)  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LONGROPE = dict(ROPE, rope_type="longrope", short_factor=[1.0] * 6, long_factor=[8.0] * 6)
WINDOW = ["sliding_attention", "full_attention"]
CONFIGS = {
    "llama": lambda: tf.LlamaConfig(**GROUPED),
    "qwen2": lambda: tf.Qwen2Config(**GROUPED, tie_word_embeddings=True),
    "qwen3": lambda: tf.Qwen3Config(**HEADS),
    "mistral": lambda: tf.MistralConfig(**GROUPED, sliding_window=None),
    "mistral_window": lambda: tf.MistralConfig(**GROUPED, sliding_window=16),
    "gpt2": lambda: tf.GPT2Config(**GPT2),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**BASE),
    "gemma": lambda: tf.GemmaConfig(**HEADS),
    "gemma2": lambda: tf.Gemma2Config(**HEADS, sliding_window=16, query_pre_attn_scalar=16),
    "gemma3": lambda: tf.Gemma3TextConfig(**HEADS, sliding_window=16, layer_types=WINDOW),
    "gemma3_wide": lambda: tf.Gemma3TextConfig(**HEADS, sliding_window=256, layer_types=WINDOW),
    "longrope": lambda: tf.Phi3Config(
        **GROUPED,
        pad_token_id=0,
        eos_token_id=3,
        rope_parameters=LONGROPE,
        original_max_position_embeddings=45,
    ),
    "phi": lambda: tf.PhiConfig(**BASE),
    "granite": lambda: tf.GraniteConfig(**GROUPED, logits_scaling=4.0),
    "cohere": lambda: tf.CohereConfig(**GROUPED, logit_scale=0.3, eos_token_id=3),
    "gpt_oss": lambda: tf.GptOssConfig(
        **HEADS,
        num_local_experts=4,
        sliding_window=256,
        rope_parameters=ROPE,
        experts_implementation="eager",
    ),
    "bloom": lambda: tf.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=48, n_layer=2, n_head=4, initializer_range=0.2
    ),  # fmt: skip
    "opt": lambda: tf.OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        word_embed_proj_dim=24,
        ffn_dim=64,
        init_std=0.2,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        do_layer_norm_before=False,
    ),
    "bart": lambda: tf.BartConfig(
        vocab_size=VOCABULARY,
        d_model=48,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        max_position_embeddings=256,
        init_std=0.2,
        is_decoder=True,
        is_encoder_decoder=False,
    ),
    "bigcode": lambda: tf.GPTBigCodeConfig(**GPT2, multi_query=True),
    "falcon": lambda: tf.FalconConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
    ),
    "mixtral": lambda: tf.MixtralConfig(
        **GROUPED, num_local_experts=4, experts_implementation="eager"
    ),
    "deepseek_v3": lambda: tf.DeepseekV3Config(
        **BASE,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        n_group=1,
        topk_group=1,
        n_shared_experts=1,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=12,
        experts_implementation="eager",
    ),
    "mamba": lambda: tf.MambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        state_size=8,
        initializer_range=0.2,
    ),
}


def model(family="llama", seed=0, **changes):
    """A config-built model whose every parameter matters: norms and biases start at random too."""
    config = CONFIGS[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    made = tf.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def tokenizer(bos=False, chat_template=None, **special):
    """Byte-level BPE with real merges; with `bos` it puts <s> before every text."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=list(SPECIAL.values()), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator([" ".join(WORDS), *WORDS] * 5, trainer)
    if bos:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=made, chat_template=chat_template, **{**SPECIAL, **special}
    )


def policy(family="llama", *, tokens=None, seed=0, name=None, **changes):
    return Policy(model(family, seed, **changes), tokens or tokenizer(), name or family)


def dataset(rows) -> Dataset:
    """Pairs from (prompt, chosen, rejected) triples."""
    return Dataset.from_list([{"id": f"p{i}", **dict(zip(COLUMNS, r))} for i, r in enumerate(rows)])


def text_pairs(n=12, seed=0) -> Dataset:
    """Texts of all proportions: prompts longer and shorter than the responses."""
    draw = random.Random(seed)

    def text(low, high):
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    return dataset([(text(1, 40), " " + text(1, 40), " " + text(1, 40)) for _ in range(n)])


def token_pairs(*lengths, seed=0) -> list[TokenPair]:
    """Pairs of random ids with the given lengths of (prompt, chosen, rejected)."""
    draw = random.Random(seed)

    def ids(n):
        return [draw.randrange(4, VOCABULARY) for _ in range(n)]

    return [TokenPair(f"p{i}", *(ids(n) for n in triple)) for i, triple in enumerate(lengths)]


def by_hand(policy, pairs) -> torch.Tensor:
    """The independent reference: float64 [n, 2], one response at a time, the model in double, the
    whole log_softmax."""
    double = copy.deepcopy(policy.model).double().eval()
    table = torch.zeros(len(pairs), 2, dtype=torch.float64)
    for i, pair in enumerate(pairs):
        for side, response in enumerate((pair.chosen, pair.rejected)):
            with torch.no_grad():
                logits = double(torch.tensor([pair.prompt + response])).logits[0]
            logps = logits.log_softmax(-1)
            for t, token in enumerate(response):
                before = len(pair.prompt) + t - 1
                table[i, side] += logps[before, token] if before >= 0 else 0.0
    return table


def plain_config(folder, **options) -> DPOConfig:
    """Of TRL's own trainer: on the CPU, in float32, nothing recomputed (the field has an older
    name before transformers 5.20), reported or shown."""
    known = {field.name for field in dataclasses.fields(DPOConfig)}
    recomputed = {"activation_checkpointing", "gradient_checkpointing"} & known
    return DPOConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, max_length=None, report_to="none",
        disable_tqdm=True, **dict.fromkeys(sorted(recomputed)[:1], False), **options,
    )  # fmt: skip


def save(policy, folder) -> Path:
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return Path(folder)
