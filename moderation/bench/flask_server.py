"""What the sidecar takes the place of: a traced BERT behind Flask, one text a request.

usage: flask_server.py PORT [THREADS]     (serves on loopback; GET /health answers 200 once it is warm)

The weights are the seeded ones of cases.py. Requests have the shape of the sidecar's POST /predict. A text is words of
that vocabulary, so that looking them up costs next to nothing. Runs on a GPU where PyTorch finds one.
"""

import os
import sys

import flask
import torch

import cases

bert = cases.bert


def main():
    """Serves until it is killed."""
    port = int(sys.argv[1])
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else os.cpu_count())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = cases.model().to(device)
    words = {word: number for word, number in cases.tokenizer(cases.CONFIG["vocab_size"])["model"]["vocab"].items()}
    with torch.no_grad():
        example = bert.padded([[101, 2000, 102]], device)
        script = torch.jit.freeze(torch.jit.trace(net, example))
        for length in (8, 32, 64, 64):
            script(*bert.padded([[101] + [2000] * length + [102]], device))
    server = flask.Flask(__name__)

    @server.get("/health")
    def health():
        return {"status": "ready"}

    @server.post("/predict")
    def predict():
        text = flask.request.get_json()["inputs"]
        ids = [words["[CLS]"]] + [words.get(word, words["[UNK]"]) for word in text.split()] + [words["[SEP]"]]
        with torch.no_grad():
            scores = torch.sigmoid(script(*bert.padded([ids], device)))[0].tolist()
        return flask.jsonify([{"label": label, "score": score} for label, score in zip(cases.LABELS, scores)])

    server.run(host="127.0.0.1", port=port, threaded=True)


if __name__ == "__main__":
    main()
