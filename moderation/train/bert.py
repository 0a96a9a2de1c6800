"""BERT for sequence classification in plain PyTorch, and its folder in the layout of Hugging Face.

Only torch is needed. Tensors have the names of the layout, so that a trained model is served as it is.
"""

import json
import math
import os
import struct

import torch
from torch import nn
from torch.nn import functional

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def read_safetensors(path):
    """The tensors of a file, by name."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = bytearray(file.read())
    tensors = {}
    for name, row in header.items():
        if name == "__metadata__":
            continue
        begin, end = row["data_offsets"]
        flat = torch.frombuffer(data[begin:end], dtype=TYPES[row["dtype"]])
        tensors[name] = flat.reshape(row["shape"]).clone()
    return tensors


def write_safetensors(path, tensors):
    """Writes tensors to a file, sorted by name."""
    names = {dtype: name for name, dtype in TYPES.items()}
    header, parts, at = {}, [], 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        raw = bytes(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.dtype != torch.bfloat16 else bytes(
            tensor.reshape(-1).view(torch.int16).numpy()
        )
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for part in parts:
            file.write(part)


class Layer(nn.Module):
    """One layer of the encoder."""

    def __init__(self, config):
        super().__init__()
        hidden, inner, eps = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.heads = config["num_attention_heads"]
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")}),
                "output": nn.ModuleDict({"dense": nn.Linear(hidden, hidden), "LayerNorm": nn.LayerNorm(hidden, eps)}),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, inner)})
        self.output = nn.ModuleDict({"dense": nn.Linear(inner, hidden), "LayerNorm": nn.LayerNorm(hidden, eps)})
        self.dropout = nn.Dropout(config.get("hidden_dropout_prob", 0.1))

    def forward(self, x, mask):
        batch, length, hidden = x.shape
        shape = (batch, length, self.heads, hidden // self.heads)
        own = self.attention["self"]
        query, key, value = (own[name](x).view(shape).transpose(1, 2) for name in ("query", "key", "value"))
        scores = query @ key.transpose(-1, -2) / math.sqrt(hidden // self.heads)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        attended = (self.dropout(scores.softmax(-1)) @ value).transpose(1, 2).reshape(batch, length, hidden)
        out = self.attention["output"]
        x = out["LayerNorm"](x + self.dropout(out["dense"](attended)))
        inner = functional.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](x + self.dropout(self.output["dense"](inner)))


class Bert(nn.Module):
    """Ids, types and mask of shape [texts, tokens] to raw scores of shape [texts, labels]."""

    def __init__(self, config):
        super().__init__()
        hidden, eps = config["hidden_size"], config["layer_norm_eps"]
        embeddings = {
            "word_embeddings": nn.Embedding(config["vocab_size"], hidden),
            "position_embeddings": nn.Embedding(config["max_position_embeddings"], hidden),
            "token_type_embeddings": nn.Embedding(config["type_vocab_size"], hidden),
            "LayerNorm": nn.LayerNorm(hidden, eps),
        }
        layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.bert = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(embeddings),
                "encoder": nn.ModuleDict({"layer": layers}),
                "pooler": nn.ModuleDict({"dense": nn.Linear(hidden, hidden)}),
            }
        )
        self.classifier = nn.Linear(hidden, len(config["id2label"]))
        self.dropout = nn.Dropout(config.get("hidden_dropout_prob", 0.1))

    def forward(self, ids, types, mask):
        parts = self.bert["embeddings"]
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        x = parts["word_embeddings"](ids) + parts["position_embeddings"](places) + parts["token_type_embeddings"](types)
        x = self.dropout(parts["LayerNorm"](x))
        for layer in self.bert["encoder"]["layer"]:
            x = layer(x, mask)
        pooled = torch.tanh(self.bert["pooler"]["dense"](x[:, 0]))
        return self.classifier(self.dropout(pooled))


def padded(texts, device="cpu"):
    """Ids, types and mask of texts, each a list of ids or a pair (ids, types)."""
    pairs = [text if isinstance(text, tuple) else (text, [0] * len(text)) for text in texts]
    length = max(len(ids) for ids, _ in pairs)
    rows = [(ids + [0] * (length - len(ids)), types + [0] * (length - len(ids)), len(ids)) for ids, types in pairs]
    mask = torch.tensor([[1] * count + [0] * (length - count) for _, _, count in rows])
    ids, types = (torch.tensor([row[part] for row in rows]) for part in (0, 1))
    return ids.to(device), types.to(device), mask.to(device)


def load(folder):
    """The model of a folder, and its configuration."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    model = Bert(config)
    model.load_state_dict({name: one.float() for name, one in read_safetensors(f"{folder}/model.safetensors").items()})
    return model, config


def save(folder, model, config, dtype=torch.float16):
    """Writes a model and its configuration to a folder."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(config, indent=1) + "\n")
    tensors = {name: one.to(dtype) for name, one in model.state_dict().items()}
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
