"""Makes the small random models of moderation/tests/testdata, with the scores that PyTorch computes in 64 bits.

usage: golden.py FOLDER      (writes FOLDER/f32, FOLDER/f16, FOLDER/bf16 and FOLDER/gpu)

The scores are those of the weights before they were rounded to the type of the file, so that a test sees the whole
error of a type. `f32`, `f16` and `bf16` have heads of 26 numbers, which no vector is as wide as; `gpu` has heads of 32.
"""

import json
import os
import sys

import torch

import bert

WORDS = "the a you are i we it is not good bad day cat dog walks home un ##s ##ing ##ed ! ? . , : é ü".split()
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer():
    """A tokenizer of few words, in the form of tokenizer.json."""
    mark = lambda name, kind: {"SpecialToken": {"id": name, "type_id": kind}}
    part = lambda name, kind: {"Sequence": {"id": name, "type_id": kind}}
    one = {name: {"id": name, "ids": [MARKS.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    added = [
        {"id": number, "content": name, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for number, name in enumerate(MARKS)
    ]
    single = [mark("[CLS]", 0), part("A", 0), mark("[SEP]", 0)]
    return {
        "version": "1.0",
        # To be ignored: what is served is cut into windows, not truncated.
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": False, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single,
                           "pair": single + [part("B", 1), mark("[SEP]", 1)], "special_tokens": one},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {word: number for number, word in enumerate(MARKS + WORDS)}},
    }


def config(hidden, heads, inner, layers):
    """The shape of a small model with three labels."""
    labels = {str(number): name for number, name in enumerate(("kind", "rude", "other"))}
    return {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 40,
            "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": inner, "hidden_act": "gelu", "max_position_embeddings": 160, "type_vocab_size": 2,
            "layer_norm_eps": 1e-12, "problem_type": "multi_label_classification", "id2label": labels}


def texts(generator):
    """Texts of 2 to 160 tokens; the last is a pair."""
    draw = lambda count: torch.randint(5, 5 + len(WORDS), (count,), generator=generator).tolist()
    single = [[2] + draw(length - 2) + [3] for length in (2, 3, 13, 31, 32, 33, 100, 160)]
    first, second = draw(6), draw(9)
    pair = [2] + first + [3] + second + [3]
    return [(ids, [0] * len(ids)) for ids in single] + [(pair, [0] * 8 + [1] * 10)]


def main():
    """Writes the folders."""
    folder = sys.argv[1]
    generator = torch.Generator().manual_seed(20)
    small, wide = config(52, 2, 90, 2), config(64, 2, 96, 2)
    for name, shape, dtype in (("f32", small, torch.float32), ("f16", small, torch.float16),
                               ("bf16", small, torch.bfloat16), ("gpu", wide, torch.float16)):
        torch.manual_seed(7)
        model = bert.Bert(shape).eval()
        with torch.no_grad():
            for one in model.parameters():
                one.copy_(torch.randn_like(one) * 0.12 + (1.0 if one.dim() == 1 and one.mean() > 0.9 else 0.0))
        out = os.path.join(folder, name)
        bert.save(out, model, shape, dtype)
        with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf-8") as file:
            file.write(json.dumps(tokenizer(), indent=1, ensure_ascii=False) + "\n")
        cases = texts(generator.manual_seed(20))
        with torch.no_grad():
            scores = model.double()(*bert.padded(cases))
        ids, types, mask = bert.padded(cases)
        golden = {"gold.ids": ids, "gold.types": types, "gold.lens": mask.sum(1), "gold.ref": scores}
        bert.write_safetensors(os.path.join(out, "golden.safetensors"), golden)


if __name__ == "__main__":
    main()
