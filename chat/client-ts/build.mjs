// Builds dist/: the entries as modules, and their types. Prints the size of each entry, minified and compressed.
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const ENTRIES = { index: join(here, "src/index.ts"), react: join(here, "src/react.ts"), more: join(here, "src/more.ts") };
const OPTIONS = { bundle: true, format: "esm", platform: "browser", target: "es2022", external: ["react"] };

/** The bytes that an entry adds to a page: minified, gzip at its best. */
export async function gzipBytes(entry) {
  const { outputFiles } = await build({ ...OPTIONS, entryPoints: [ENTRIES[entry]], minify: true, write: false });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  rmSync(join(here, "dist"), { recursive: true, force: true });
  await build({ ...OPTIONS, entryPoints: ENTRIES, outdir: join(here, "dist"), sourcemap: true });
  const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
  execFileSync(process.execPath, [tsc, "-p", join(here, "tsconfig.build.json")], { stdio: "inherit" });
  for (const entry of Object.keys(ENTRIES)) console.log(`${entry}: ${await gzipBytes(entry)} bytes, minified and gzipped`);
}
