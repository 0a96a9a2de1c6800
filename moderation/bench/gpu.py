"""Keevo's classifier beside PyTorch on one GPU, in one run: a table, and the same as JSON.

usage: gpu.py SPEED FOLDER [OUT.json]

SPEED is `speed` of moderation/examples, built with the feature cuda (moderation/README.md says how); FOLDER takes the
random weights and the batches. The contenders: `torch.jit.trace` in f32 (the set-up that Keevo replaces), torch.compile
in f16 with its own graphs, and Keevo. Times are medians in milliseconds from numbers in memory to scores in memory,
transfers included. Keevo's scores are compared with PyTorch's in 64 bits. A second table says what the time of the large
batches is made of: the products, the GELU and the attention are timed alone, and what is left is the rest.
"""

import glob
import json
import os
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional

import cases

bert = cases.bert
BEGAN = time.monotonic()
SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
# From so many tokens on a batch is bound by its work, not by its launches, so its parts add up.
PARTS_ROWS_MIN = 4096
# The whole run ends well within six minutes: what is not timed by then is left out, and said so.
DEADLINE_S = float(os.environ.get("KEEVO_BENCH_SECONDS", "240"))


def say(text):
    """A line of progress."""
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


class Fused(bert.Layer):
    """The layer with PyTorch's fused attention, for torch.compile."""

    def forward(self, x, mask):
        batch, length, hidden = x.shape
        shape = (batch, length, self.heads, hidden // self.heads)
        own = self.attention["self"]
        query, key, value = (own[name](x).view(shape).transpose(1, 2) for name in ("query", "key", "value"))
        bias = None if mask is None else mask[:, None, None, :].bool()
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out = self.attention["output"]
        x = out["LayerNorm"](x + out["dense"](attended.transpose(1, 2).reshape(batch, length, hidden)))
        inner = functional.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](x + self.output["dense"](inner))


def timed(run, seconds=1.5, most=300):
    """Median milliseconds of a run that ends with its scores in memory."""
    for _ in range(3):
        run()
    times, began = [], time.monotonic()
    while len(times) < most and (len(times) < 5 or time.monotonic() - began < seconds):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def traced(net, batches, results):
    """torch.jit.trace in f32."""
    net = net.float().cuda().eval()
    with torch.no_grad():
        example = [one.cuda() for one in bert.padded(batches["b1_s32"])]
        script = torch.jit.freeze(torch.jit.trace(net, example))
        for name, texts in batches.items():
            ids, types, mask = bert.padded(texts)
            results[name]["jit_f32"] = timed(lambda: script(ids.cuda(), types.cuda(), mask.cuda()).cpu())
            say(f"{name}: torch.jit.trace f32 {results[name]['jit_f32']:.2f} ms")


def compiled(net, batches, results):
    """torch.compile in f16, one graph for each shape."""
    for layer in net.bert["encoder"]["layer"]:
        layer.__class__ = Fused
    net = net.half().cuda().eval()
    for limit in ("recompile_limit", "cache_size_limit"):
        if hasattr(torch._dynamo.config, limit):
            setattr(torch._dynamo.config, limit, 64)
    fast = torch.compile(net, mode="reduce-overhead", dynamic=False)
    with torch.no_grad():
        for name, texts in batches.items():
            if time.monotonic() - BEGAN > DEADLINE_S:
                say(f"{name}: torch.compile left out, the time is up")
                continue
            ids, types, mask = bert.padded(texts)
            padded = len({len(text) for text in texts}) > 1
            run = lambda: fast(ids.cuda(), types.cuda(), mask.cuda() if padded else None).cpu()
            results[name]["compile_f16"] = timed(run)
            say(f"{name}: torch.compile f16 {results[name]['compile_f16']:.2f} ms")


def ceiling():
    """TFLOP/s of a large f16 product."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.perf_counter() - start) / 1e12


def flop(texts):
    """Floating-point operations that the real tokens of a batch need."""
    hidden, inner, layers = 768, 3072, 12
    dense = 2 * (4 * hidden * hidden + 2 * hidden * inner)
    return layers * sum(len(text) * dense + 4 * len(text) ** 2 * hidden for text in texts)


def parts(texts, device="cuda"):
    """Milliseconds of a batch's products, of its GELU and, where the texts are of one length, of PyTorch's attention.

    Each is all layers of it, alone and by PyTorch in f16, so it is the least that a pass with separate kernels takes.
    As in Keevo, the last layer computes one row of each text after its attention.
    """
    hidden, inner, layers, heads = (cases.CONFIG[key] for key in SHAPE)
    rows = sum(len(text) for text in texts)
    draw = lambda *shape: torch.randn(shape, device=device).to(torch.float16 if device == "cuda" else torch.float32)
    shapes = ((3 * hidden, hidden), (hidden, hidden), (inner, hidden), (hidden, inner))
    weights = [[draw(*shape) for shape in shapes] for _ in range(layers)]
    wide = {width: draw(rows, width) for width in (hidden, inner)}

    def products():
        for number, layer in enumerate(weights):
            for place, weight in enumerate(layer):
                last = number + 1 == layers and place > 0
                functional.linear(wide[weight.shape[1]][: len(texts) if last else rows], weight)

    def gelu():
        for number in range(layers):
            functional.gelu(wide[inner][: len(texts) if number + 1 == layers else rows])

    def attention():
        for _ in range(layers):
            functional.scaled_dot_product_attention(*split)

    found = {"products": pure(products, device), "gelu": pure(gelu, device)}
    length = len(texts[0])
    if rows == length * len(texts):
        qkv = draw(len(texts), length, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
        split = tuple(qkv)
        found["attention"] = pure(attention, device)
    return found


def pure(run, device):
    """Median milliseconds of a run on the device, nothing copied."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    with torch.no_grad():
        for _ in range(13):
            start = time.perf_counter()
            run()
            wait()
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[3:])


def print_parts(results):
    """A table of what Keevo's time is made of, in milliseconds."""
    print("\n| | products | GELU | attention | Keevo | the rest |\n|---|---|---|---|---|---|")
    for name, row in results.items():
        if found := row.get("parts"):
            own = row["keevo"]["median_ms"]
            cell = f"{found['attention']:.2f}" if "attention" in found else "–"
            print(f"| {name} | {found['products']:.2f} | {found['gelu']:.2f} | {cell} | {own:.2f} | {own - sum(found.values()):.2f} |")


def keevo(speed, folder, results):
    """Keevo's own figures."""
    # The libraries that came with PyTorch, then those of the machine.
    folders = [found for path in sys.path for found in glob.glob(os.path.join(path, "nvidia", "*", "lib"))]
    folders += ["/usr/local/cuda/lib64", os.environ.get("LD_LIBRARY_PATH", "")]
    environment = dict(os.environ, LD_LIBRARY_PATH=":".join(filter(None, folders)), RUST_LOG="info")
    command = [speed, f"{folder}/model", f"{folder}/cases.safetensors", "gpu", "auto", "1.5"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    if out.returncode:
        raise SystemExit(f"{speed} failed:\n{out.stdout}{out.stderr}")
    print(out.stderr, file=sys.stderr, end="")
    for line in out.stdout.splitlines():
        row = json.loads(line)
        figures = row["figures"]
        results[row["case"]]["keevo"] = figures | {"load_ms": row["load_ms"], "device": row["device"]}
        say(f"{row['case']}: Keevo {figures['median_ms']:.2f} ms, relative error {figures['error']:.1e}")


def main():
    """Runs all, prints the table."""
    speed, folder = sys.argv[1:3]
    say(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    if not os.path.exists(f"{folder}/cases.safetensors"):
        subprocess.run([sys.executable, cases.__file__, folder], check=True)
    say("weights, batches and scores in 64 bits are made")
    batches = cases.batches()
    results = {name: {"flop": flop(texts)} for name, texts in batches.items()}
    keevo(speed, folder, results)
    most = ceiling()
    try:
        for name, texts in batches.items():
            if sum(len(text) for text in texts) >= PARTS_ROWS_MIN:
                results[name]["parts"] = parts(texts)
        say("the parts are timed")
    except Exception as error:  # The other figures are worth printing without them.
        say(f"the parts of a batch cannot be timed: {error}")
    traced(cases.model(), batches, results)
    try:
        compiled(cases.model(), batches, results)
    except Exception as error:  # The other figures are worth printing without it.
        say(f"torch.compile failed: {error}")
    whole = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "ceiling_tflops": most, "cases": results}
    print("| | torch.jit f32 | torch.compile f16 | Keevo f16 | × jit | × compile | of the ceiling | error |\n|---|---|---|---|---|---|---|---|")
    for name, row in results.items():
        own, jit, other = row["keevo"]["median_ms"], row["jit_f32"], row.get("compile_f16")
        share = row["flop"] / (own / 1e3) / 1e12 / most
        beside = f"{other:.2f} | " if other else "– | "
        times = f"{own / other:.2f}" if other else "–"
        print(f"| {name} | {jit:.2f} | {beside}{own:.2f} | {own / jit:.3f} | {times} | {share:.0%} | {row['keevo']['error']:.1e} |")
    print_parts(results)
    if len(sys.argv) > 3:
        with open(sys.argv[3], "w", encoding="utf-8") as file:
            json.dump(whole, file, indent=1)
    wrong = [name for name, row in results.items() if not row["keevo"]["error"] < 5e-3]
    if wrong:
        raise SystemExit(f"scores too far from PyTorch's: {wrong}")


if __name__ == "__main__":
    main()
