"""Checks every relative link of the built book, down to the heading. What a page links to outside the book (a source file, the README of
a folder) is copied beside it, so that the link leads there. Usage: book-links.py FOLDER, where FOLDER/docs is the book."""

import html.parser
import pathlib
import shutil
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """The links of a page and the places in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.add(attrs["id"])
        link = attrs.get("href") if tag == "a" else attrs.get("src") if tag == "img" else None
        if link:
            self.links.append(link)


def main(folder):
    book, tree = pathlib.Path(folder).resolve(), pathlib.Path.cwd().resolve()
    texts = {path: path.read_text() for path in sorted((book / "docs").rglob("*.html"))}
    pages = {path: Page(text) for path, text in texts.items()}
    checked, copied, broken = 0, set(), []
    for path, page in pages.items():
        if path.name in ("print.html", "404.html", "toc.html"):
            continue
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if target in pages:
                if parts.fragment and urllib.parse.unquote(parts.fragment) not in pages[target].ids:
                    broken.append(f"{path.relative_to(book)}: {link} names no place of its page")
                continue
            if target.exists():
                continue
            wanted = target.relative_to(book) if target.is_relative_to(book) else None
            # mdBook takes a link to any .md for one to a page: one outside the book stays the file that it is.
            choices = [wanted, wanted.with_suffix(".md")] if wanted else []
            source = next((tree / one for one in choices if (tree / one).exists()), None)
            if source is None:
                broken.append(f"{path.relative_to(book)}: {link} leads nowhere")
                continue
            place = book / source.relative_to(tree)
            if source.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
            copied.add(place)
            if place != target:
                texts[path] = texts[path].replace(f'"{link}"', f'"{link[: -len("html") - (len(parts.fragment) + 1 if parts.fragment else 0)]}md"')
                path.write_text(texts[path])
    print(f"book: {len(pages)} pages, {checked} links checked, {len(copied)} files beside it, {len(broken)} broken")
    for one in broken:
        print(one)
    return 1 if broken or not checked else 0


sys.exit(main(sys.argv[1]))
