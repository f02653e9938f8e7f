"""Models come in here, whole or refused.

policy.py       `Policy`: a language model with its tokenizer; `load_policy`
lora.py         `add_lora`: a fresh adapter around a policy
locks.py        one thread at a time in a model
loading.py      a model by its name, from wherever it is
finding.py      where that is: package, folder, GGUF file, hub
devices.py      on which device, in which precision
parts.py        tokenizer, configuration and weights of a saved model
adapters.py     an adapter around its base
gguf_files.py   the weights of a GGUF file
checks.py       is it a causal language model, whole and sound?
explaining.py   what another library's error means
saving.py       models and adapters to folders that load again
checksums.py    are these the weights that were loaded?
"""
