"""Keevo's classifier beside onnxruntime and torch.jit.trace on the processor, in one run: a table, and JSON.

usage: cpu.py SPEED FOLDER [OUT.json] [--threads N]

SPEED is `speed` of moderation/examples in a release build. Needs PyTorch, onnx and onnxruntime in one Python. FOLDER
takes the random weights and the batches of cases.py (the small set). Contenders take turns, case by case; times are
minima in milliseconds, since the machine may be shared, from numbers in memory to scores in memory. The padded
contenders pad a batch to its longest text; the mixed one is also given to onnxruntime in four parts sorted by length.
"""

import json
import os
import subprocess
import sys
import time

import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

import cases

bert = cases.bert


def least(run, seconds=4.0):
    """The least milliseconds of at least three runs."""
    run()
    times, began = [], time.monotonic()
    while len(times) < 3 or time.monotonic() - began < seconds:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def exported(folder, net):
    """The model as ONNX, in f32 and in int8."""
    plain, small = os.path.join(folder, "model.onnx"), os.path.join(folder, "model.int8.onnx")
    if not os.path.exists(small):
        names = ["ids", "types", "mask"]
        free = {name: {0: "batch", 1: "length"} for name in names}
        example = bert.padded([[101, 2000, 102], [101, 2000, 2001, 102]])
        torch.onnx.export(net, example, plain, input_names=names, output_names=["scores"], opset_version=14,
                          dynamic_axes={**free, "scores": {0: "batch"}})
        quantize_dynamic(plain, small, weight_type=QuantType.QInt8)
    return plain, small


def session(path, threads):
    """An onnxruntime session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feeds(texts):
    """Inputs of onnxruntime."""
    return dict(zip(("ids", "types", "mask"), (one.numpy() for one in bert.padded(texts))))


def keevo(speed, folder, name, precision):
    """One case by Keevo."""
    command = [speed, f"{folder}/model", f"{folder}/cases.safetensors", "cpu", precision, "4", name]
    out = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return json.loads(out.stdout)["figures"]


def main():
    """Runs all, prints the table."""
    words = sys.argv[1:]
    threads = int(words[words.index("--threads") + 1]) if "--threads" in words else os.cpu_count()
    speed, folder = words[:2]
    torch.set_num_threads(threads)
    if not os.path.exists(f"{folder}/cases.safetensors"):
        subprocess.run([sys.executable, cases.__file__, folder, "small"], check=True)
    net = cases.model()
    plain, small = (session(path, threads) for path in exported(folder, net))
    batches = cases.batches(small=True)
    with torch.no_grad():
        script = torch.jit.freeze(torch.jit.trace(net, bert.padded(batches["b1_s32"])))
        results = {}
        for name, texts in batches.items():
            given = feeds(texts)
            row = {"onnx_f32": least(lambda: plain.run(None, given)), "f32": keevo(speed, folder, name, "f32")}
            row["onnx_int8"] = least(lambda: small.run(None, given))
            row["int8"] = keevo(speed, folder, name, "int8")
            row["jit_f32"] = least(lambda: script(*bert.padded(texts)))
            if name == "mixed":
                order = sorted(texts, key=len)
                parts = [feeds(order[at:at + len(order) // 4]) for at in range(0, len(order), len(order) // 4)]
                row["onnx_f32_sorted"] = least(lambda: [plain.run(None, part) for part in parts])
                row["onnx_int8_sorted"] = least(lambda: [small.run(None, part) for part in parts])
            results[name] = row
            print(name, {key: value if isinstance(value, float) else value["min_ms"] for key, value in row.items()},
                  file=sys.stderr, flush=True)
    print("| | jit f32 | onnx f32 | Keevo f32 | × onnx | onnx int8 | Keevo int8 | × onnx | error f32 / int8 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in results.items():
        own, eight = row["f32"]["min_ms"], row["int8"]["min_ms"]
        print(f"| {name} | {row['jit_f32']:.1f} | {row['onnx_f32']:.1f} | {own:.1f} | {own / row['onnx_f32']:.2f} "
              f"| {row['onnx_int8']:.1f} | {eight:.1f} | {eight / row['onnx_int8']:.2f} "
              f"| {row['f32']['error']:.1e} / {row['int8']['error']:.1e} |")
    mixed = results["mixed"]
    print(f"mixed for onnxruntime in four parts sorted by length: f32 {mixed['onnx_f32_sorted']:.1f} ms, "
          f"int8 {mixed['onnx_int8_sorted']:.1f} ms")
    if len(words) > 2 and not words[2].startswith("--"):
        with open(words[2], "w", encoding="utf-8") as file:
            json.dump({"threads": threads, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__,
                       "cases": results}, file, indent=1)


if __name__ == "__main__":
    main()
