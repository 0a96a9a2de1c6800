"""Keevo's classifier beside onnxruntime and torch.jit.trace on the processor, in one run: a table, and JSON.

usage: cpu.py SPEED FOLDER [OUT.json] [--threads N] [--cases b1_s32,mixed]

SPEED is `speed` of moderation/examples in a release build. Needs PyTorch, onnx and onnxruntime in one Python. FOLDER
takes the random weights and the batches of cases.py (the small set). Contenders take turns, case by case, from numbers
in memory to scores in memory; the table has minima in milliseconds, since the machine may be shared, and the JSON medians
and 99th percentiles too. The padded contenders pad a batch to its longest text; the mixed one is also given to
onnxruntime in four parts sorted by length. The ceiling is PyTorch's own product of two matrices of 2,048 by 2,048.
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


def timed(run, seconds=4.0):
    """Milliseconds of at least five runs: the least, the median, the 99th percentile."""
    run()
    times, began = [], time.monotonic()
    while len(times) < 5 or time.monotonic() - began < seconds:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    at = lambda share: times[min(len(times) * share // 100, len(times) - 1)]
    return {"min_ms": times[0], "median_ms": at(50), "p99_ms": at(99), "runs": len(times)}


def ceiling():
    """GFLOP/s of a large product in f32."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / (timed(lambda: left @ right, 2.0)["min_ms"] * 1e6)


def gflop(texts):
    """The multiplications and additions that a batch needs without padding, in 10^9."""
    hidden, inner = bert_sizes()
    layers = cases.CONFIG["num_hidden_layers"]
    each = lambda length: layers * (2 * length * (4 * hidden * hidden + 2 * hidden * inner) + 4 * length * length * hidden)
    return sum(each(len(text)) for text in texts) / 1e9


def bert_sizes():
    """Width of the model and of its inner layer."""
    return cases.CONFIG["hidden_size"], cases.CONFIG["intermediate_size"]


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
    value = lambda flag, otherwise: words[words.index(flag) + 1] if flag in words else otherwise
    threads = int(value("--threads", os.cpu_count()))
    only = value("--cases", "").split(",")
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
            if only != [""] and name not in only:
                continue
            given = feeds(texts)
            row = {"onnx_f32": timed(lambda: plain.run(None, given)), "f32": keevo(speed, folder, name, "f32")}
            row["onnx_int8"] = timed(lambda: small.run(None, given))
            row["int8"] = keevo(speed, folder, name, "int8")
            row["jit_f32"] = timed(lambda: script(*bert.padded(texts)))
            if name == "mixed":
                order = sorted(texts, key=len)
                parts = [feeds(order[at:at + len(order) // 4]) for at in range(0, len(order), len(order) // 4)]
                row["onnx_f32_sorted"] = timed(lambda: [plain.run(None, part) for part in parts])
                row["onnx_int8_sorted"] = timed(lambda: [small.run(None, part) for part in parts])
            results[name] = {**row, "gflop": gflop(texts)}
            print(name, {key: one["min_ms"] for key, one in row.items()}, file=sys.stderr, flush=True)
        most = ceiling()
    print("| | jit f32 | onnx f32 | Keevo f32 | × onnx | onnx int8 | Keevo int8 | × onnx | error f32 / int8 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in results.items():
        least = {key: one["min_ms"] for key, one in row.items() if key != "gflop"}
        own, eight = least["f32"], least["int8"]
        print(f"| {name} | {least['jit_f32']:.1f} | {least['onnx_f32']:.1f} | {own:.1f} | {own / least['onnx_f32']:.2f} "
              f"| {least['onnx_int8']:.1f} | {eight:.1f} | {eight / least['onnx_int8']:.2f} "
              f"| {row['f32']['error']:.1e} / {row['int8']['error']:.1e} |")
    if "mixed" in results:
        mixed = results["mixed"]
        print(f"mixed for onnxruntime in four parts sorted by length: f32 {mixed['onnx_f32_sorted']['min_ms']:.1f} ms, "
              f"int8 {mixed['onnx_int8_sorted']['min_ms']:.1f} ms")
    if len(words) > 2 and not words[2].startswith("--"):
        with open(words[2], "w", encoding="utf-8") as file:
            json.dump({"threads": threads, "ceiling_gflops": most, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__,
                       "cases": results}, file, indent=1)


if __name__ == "__main__":
    main()
