// Takes the files of the tutorial out of its page: `node extract.mjs STEP FOLDER` writes those of all steps up to STEP.
//
// A file is a fenced block that follows its name, which stands alone in a paragraph as code.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PAGE = join(dirname(fileURLToPath(import.meta.url)), "../chat.md");

/** The steps of the page: number, title, and the text of each file by name. */
export async function steps() {
  const found = [];
  for (const part of (await readFile(PAGE, "utf8")).split(/^## /m).slice(1)) {
    const title = /^(\d+)\. (.*)$/m.exec(part.split("\n", 1)[0]);
    if (!title) continue;
    const files = {};
    for (const [, name, text] of part.matchAll(/^`([a-z.]+)`\n\n```\w+\n(.*?)^```$/gms)) files[name] = text;
    found.push({ number: Number(title[1]), title: title[2], files });
  }
  return found;
}

/** Writes the files of all steps up to `last`. */
export async function extract(last, folder) {
  await mkdir(folder, { recursive: true });
  for (const { number, files } of await steps()) {
    if (number > last) break;
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await extract(Number(process.argv[2]), process.argv[3]);
