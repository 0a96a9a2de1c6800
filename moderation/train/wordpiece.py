"""Reads tokenizer.json of a BERT model and cuts texts as Keevo does, with nothing but the standard library."""

import json
import os
import unicodedata


def _is_punctuation(char):
    ascii_sign = 33 <= ord(char) <= 126 and not char.isalnum()
    return ascii_sign or unicodedata.category(char).startswith("P")


def _is_ideograph(char):
    point = ord(char)
    blocks = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B81F), (0x2B820, 0x2CEAF),
              (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))
    return any(low <= point <= high for low, high in blocks)


class WordPiece:
    """Texts to ids, with the marks of a start and an end."""

    def __init__(self, folder):
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
            whole = json.load(file)
        self.words = whole["model"]["vocab"]
        self.prefix = whole["model"].get("continuing_subword_prefix", "##")
        self.longest = whole["model"].get("max_input_chars_per_word", 100)
        normalizer = whole.get("normalizer") or {}
        self.lower = normalizer.get("lowercase", True)
        strip = normalizer.get("strip_accents")
        self.strip = self.lower if strip is None else strip
        self.unknown, self.start, self.end = (self.words[mark] for mark in ("[UNK]", "[CLS]", "[SEP]"))

    def _split(self, text):
        """Words and signs."""
        found = []
        for char in text:
            if char in "\t\n\r":
                char = " "
            if ord(char) in (0, 0xFFFD) or unicodedata.category(char) in ("Cc", "Cf", "Cn", "Co"):
                continue
            found.append(f" {char} " if _is_ideograph(char) else char)
        text = "".join(found)
        if self.strip:
            text = "".join(char for char in unicodedata.normalize("NFD", text) if unicodedata.category(char) != "Mn")
        if self.lower:
            text = text.lower()
        return "".join(f" {char} " if _is_punctuation(char) else char for char in text).split()

    def _pieces(self, word):
        if len(word) > self.longest:
            return [self.unknown]
        pieces, at = [], 0
        while at < len(word):
            end = len(word)
            while end > at:
                piece = self.words.get((self.prefix if at else "") + word[at:end])
                if piece is not None:
                    break
                end -= 1
            if end == at:
                return [self.unknown]
            pieces.append(piece)
            at = end
        return pieces

    def encode(self, text, most=128):
        """At most `most` ids, the marks included."""
        ids = [piece for word in self._split(text) for piece in self._pieces(word)]
        return [self.start] + ids[: most - 2] + [self.end]
