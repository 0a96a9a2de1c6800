"""Fine-tunes a BERT classifier on labelled CSV and writes a folder that `keevo-moderation serve --model` reads.

usage: train.py --data CSV --base FOLDER --out FOLDER [--epochs N] [--seed N] [--batch N] [--rate X] [--tokens N]

The CSV has a column `text` and one column for each label, with a number from 0 to 1 in each row, or nothing where it is
not known: unknown labels do not count. A column `split` with `train` and `val` is used where there is one, else every
tenth row is kept for validation. FOLDER of --base gives the shape, the tokenizer and the first weights; its classifier
is kept when it has the same labels, else it begins anew. The same data and seed give the same weights on one machine.
"""

import argparse
import csv
import json
import math
import os
import random
import shutil
import sys

import torch
from torch.nn import functional

import bert
from wordpiece import WordPiece


def read(path):
    """The labels, and the rows as (text, scores, is_train)."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        fields = reader.fieldnames or []
        if "text" not in fields:
            raise SystemExit(f"{path} has no column text; its columns are {fields}")
        labels = [name for name in fields if name not in ("text", "split", "source")]
        if not labels:
            raise SystemExit(f"{path} has no column for a label beside text")
        rows = []
        for number, row in enumerate(reader):
            try:
                scores = [float(row[name]) if row[name] not in ("", None) else math.nan for name in labels]
            except ValueError as error:
                raise SystemExit(f"{path}, row {number + 2}: {error}; a label is a number from 0 to 1") from error
            if any(score < 0 or score > 1 for score in scores):
                raise SystemExit(f"{path}, row {number + 2}: a label is a number from 0 to 1")
            split = row.get("split") or ("val" if number % 10 == 9 else "train")
            rows.append((row["text"] or "", scores, split == "train"))
    if not any(row[2] for row in rows) or all(row[2] for row in rows):
        raise SystemExit(f"{path} needs rows to train on and rows to validate on")
    return labels, rows


def load(folder, labels):
    """The base model with a classifier of these labels."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    same = list(config.get("id2label", {}).values()) == labels
    config["id2label"] = {str(number): name for number, name in enumerate(labels)}
    config["label2id"] = {name: number for number, name in enumerate(labels)}
    config["problem_type"] = "multi_label_classification"
    config.setdefault("layer_norm_eps", 1e-12)
    model = bert.Bert(config)
    weights = {name: one.float() for name, one in bert.read_safetensors(f"{folder}/model.safetensors").items()}
    kept = {name: one for name, one in weights.items() if same or not name.startswith("classifier.")}
    missing, stray = model.load_state_dict(kept, strict=False)
    lost = [name for name in missing if not name.startswith("classifier.")]
    if lost or stray:
        raise SystemExit(f"{folder} does not fit its config.json: lacks {lost[:3]}, has also {stray[:3]}")
    return model, config


def auc(scores, truths):
    """The share of pairs in the right order; ties count half."""
    order = sorted(zip(scores, truths))
    ranks, at = {}, 0
    while at < len(order):
        end = at
        while end < len(order) and order[end][0] == order[at][0]:
            end += 1
        ranks.update({index: (at + end + 1) / 2 for index in range(at, end)})
        at = end
    good = sum(truths)
    if good in (0, len(truths)):
        return math.nan
    total = sum(ranks[index] for index, (_, truth) in enumerate(order) if truth)
    return (total - good * (good + 1) / 2) / (good * (len(truths) - good))


def batches(rows, size, shuffle):
    """Batches of texts of similar length."""
    order = list(range(len(rows)))
    if shuffle:
        shuffle.shuffle(order)
    blocks = [order[at:at + size * 50] for at in range(0, len(order), size * 50)]
    found = []
    for block in blocks:
        block.sort(key=lambda index: len(rows[index][0]))
        found += [[rows[index] for index in block[at:at + size]] for at in range(0, len(block), size)]
    if shuffle:
        shuffle.shuffle(found)
    return found


def evaluate(model, labels, rows, device):
    """AUC and the share above one half, by label."""
    model.eval()
    scores, truths = [], []
    with torch.no_grad():
        for batch in batches(rows, 64, None):
            scores += torch.sigmoid(model(*bert.padded([ids for ids, _ in batch], device))).cpu().tolist()
            truths += [truth for _, truth in batch]
    report = {}
    for number, label in enumerate(labels):
        known = [(score[number], truth[number] > 0.5) for score, truth in zip(scores, truths) if not math.isnan(truth[number])]
        flagged = sum(score > 0.5 for score, _ in known)
        area = auc(*zip(*known)) if known else math.nan
        report[label] = {"rows": len(known), "auc": None if math.isnan(area) else round(area, 4),
                         "flagged": round(flagged / len(known), 4) if known else None}
    return report


def fit(model, rows, options, device):
    """Trains in place: AdamW, a short warm-up, then a linear decay."""
    draw = random.Random(options.seed)
    steps = options.epochs * math.ceil(len(rows) / options.batch)
    tuned = [one for name, one in model.named_parameters() if "word_embeddings" not in name]
    optimizer = torch.optim.AdamW(tuned, lr=options.rate, weight_decay=0.01)
    pace = lambda step: min(1.0, (step + 1) / max(1, 0.06 * steps)) * max(0.0, 1 - step / steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, pace)
    for epoch in range(options.epochs):
        model.train()
        total = 0.0
        for batch in batches(rows, options.batch, draw):
            truth = torch.tensor([scores for _, scores in batch], device=device)
            known = ~truth.isnan()
            raw = model(*bert.padded([ids for ids, _ in batch], device))
            losses = functional.binary_cross_entropy_with_logits(raw, truth.nan_to_num(), reduction="none")
            loss = (losses * known).sum() / known.sum().clamp(min=1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(tuned, 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(rows):.4f}", flush=True)


def main():
    """Reads, trains, evaluates, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "base", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name, value in (("epochs", 3), ("seed", 0), ("batch", 32), ("tokens", 128)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, default=5e-5)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    labels, rows = read(options.data)
    words = WordPiece(options.base)
    model, config = load(options.base, labels)
    most = min(options.tokens, config["max_position_embeddings"])
    parts = {True: [], False: []}
    for text, scores, is_train in rows:
        parts[is_train].append((words.encode(text, most), scores))
    model.to(device)
    fit(model, parts[True], options, device)
    report = evaluate(model, labels, parts[False], device)
    print(json.dumps(report, indent=1))
    bert.save(options.out, model, config, torch.float16)
    tokenizer = os.path.join(options.out, "tokenizer.json")
    if os.path.abspath(options.base) != os.path.abspath(options.out):
        shutil.copyfile(os.path.join(options.base, "tokenizer.json"), tokenizer)
    with open(os.path.join(options.out, "evaluation.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
