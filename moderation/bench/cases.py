"""Random weights of the shape of BERT-base, and the batches that are timed: the same for every contender.

usage: cases.py FOLDER [small]     (writes FOLDER/model and FOLDER/cases.safetensors)

Weights and texts are drawn from a seed. The scores beside each batch are PyTorch's in 64 bits, on a GPU where there is
one; the large batches have the scores of their first 32 texts only without a GPU, for time.
"""

import json
import os
import random
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
import bert  # noqa: E402

LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
CONFIG = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 30522, "hidden_size": 768,
    "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
    "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    "problem_type": "multi_label_classification", "id2label": {str(n): name for n, name in enumerate(LABELS)},
}


def model():
    """BERT-base with seeded random weights, each rounded to f16 first, so that every type starts from the same."""
    torch.manual_seed(11)
    net = bert.Bert(CONFIG).eval()
    with torch.no_grad():
        for name, one in net.named_parameters():
            if name.endswith("LayerNorm.weight"):
                one.copy_(torch.randn_like(one) * 0.05 + 1.0)
            else:
                one.copy_(torch.randn_like(one) * (0.02 if one.dim() == 1 else 0.04))
            one.copy_(one.half().float())
    return net


def batches(small=False):
    """The batches by name: lists of lists of token ids."""
    draw = random.Random(5)
    text = lambda length: [101] + [draw.randrange(1000, 30000) for _ in range(length - 2)] + [102]
    lengths = [draw.randint(5, 60) for _ in range(256)]
    sizes = {"b1_s32": (1, 32), "b1_s128": (1, 128)}
    if small:
        sizes["b32_s32"] = (32, 32)
    else:
        sizes.update({"b32_s128": (32, 128), "b256_s32": (256, 32), "b256_s128": (256, 128)})
    found = {name: [text(length) for _ in range(count)] for name, (count, length) in sizes.items()}
    found["mixed"] = [text(length) for length in (lengths[:64] if small else lengths)]
    return found


def tokenizer(net_words):
    """A tokenizer of numbers for words: the batches are tokens already, but a model's folder has one."""
    words = ["[PAD]"] + [f"w{n}" for n in range(1, 100)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"w{n}" for n in range(len(words), net_words)]
    mark = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    one = {name: {"id": name, "ids": [words.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
        "post_processor": {"type": "TemplateProcessing",
                           "single": [mark("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, mark("[SEP]")],
                           "pair": [mark("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, mark("[SEP]"),
                                    {"Sequence": {"id": "B", "type_id": 1}}, mark("[SEP]")],
                           "special_tokens": one},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: number for number, word in enumerate(words)}},
    }


def main():
    """Writes the folder."""
    folder = sys.argv[1]
    small = "small" in sys.argv[2:]
    net = model()
    bert.save(os.path.join(folder, "model"), net, CONFIG, torch.float16)
    with open(os.path.join(folder, "model", "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer(CONFIG["vocab_size"]), file)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = net.double().to(device)
    out = {}
    for name, texts in batches(small).items():
        scores = []
        with torch.no_grad():
            for at in range(0, len(texts) if device == "cuda" else 32, 32):
                if texts[at:at + 32]:
                    scores.append(net(*bert.padded(texts[at:at + 32], device)).cpu())
        ids, _, mask = bert.padded(texts)
        out.update({f"{name}.ids": ids, f"{name}.lens": mask.sum(1), f"{name}.ref": torch.cat(scores)})
    bert.write_safetensors(os.path.join(folder, "cases.safetensors"), out)


if __name__ == "__main__":
    main()
