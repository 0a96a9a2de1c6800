"""What the other form of GELU would cost in the scores: `tanh`, which is cuBLASLt's, against `erf`, which is BERT's.

usage: gelu.py [MODEL…]     (folders with golden.safetensors beside the weights; none: the bundled model)

Everything is computed in 64 bits, so that the form alone makes the difference: for the golden texts of each model, and
for random weights of BERT-base on texts of cases.py. It says whether a product that ends with its GELU may be used.
"""

import os
import sys

import torch
from torch.nn import functional

import cases

bert = cases.bert
ERF = functional.gelu


def scores(net, texts, form):
    """Raw scores of texts, `[texts, labels]`, with one form of GELU."""
    functional.gelu = lambda x: ERF(x, approximate=form)
    try:
        with torch.no_grad():
            return torch.cat([net(*bert.padded([text])) for text in texts])
    finally:
        functional.gelu = ERF


def compare(name, net, texts):
    """One row: ‖tanh − erf‖ / ‖erf‖ of the raw scores, and the most that a probability moves."""
    net = net.double().eval()
    erf, tanh = (scores(net, texts, form) for form in ("none", "tanh"))
    error = (tanh - erf).norm() / erf.norm()
    moved = (tanh.sigmoid() - erf.sigmoid()).abs().max()
    print(f"| {name} | {len(texts)} | {error:.1e} | {moved:.1e} |", flush=True)


def golden(folder):
    """The golden texts of a model, as lists of ids."""
    tensors = bert.read_safetensors(os.path.join(folder, "golden.safetensors"))
    ids, lengths = ([one for name, one in tensors.items() if name.endswith(end)] for end in (".ids", ".lens"))
    if len(ids) != 1 or len(lengths) != 1:
        raise SystemExit(f"{folder}/golden.safetensors must have one set of texts: NAME.ids and NAME.lens")
    return [row[:length].tolist() for row, length in zip(ids[0], lengths[0].tolist())]


def main():
    """Prints the table."""
    here = os.path.dirname(os.path.abspath(__file__))
    print("| weights | texts | error of the scores | a probability moves by |\n|---|---|---|---|")
    for folder in sys.argv[1:] or [os.path.join(here, "..", "model")]:
        compare(os.path.basename(os.path.normpath(folder)), bert.load(folder)[0], golden(folder))
    batches = cases.batches()
    texts = batches["b1_s32"] + batches["b1_s128"] + batches["mixed"][:30]
    compare("random, BERT-base", cases.model(), texts)


if __name__ == "__main__":
    main()
