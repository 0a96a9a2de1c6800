// Builds the console into dist/: one document, and one script, one style sheet, the icon and the licences, compressed. The
// result depends on the sources and the locked packages alone, so a rebuild gives the same files. Their names hold no
// digest: the document asks for `app.js?v=DIGEST`.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const here = dirname(fileURLToPath(import.meta.url));

/** The name of the package that a module belongs to. */
function packageOf(module: string): string | undefined {
  const [, path] = module.split(/.*\/node_modules\//);
  return path?.split("/").slice(0, path.startsWith("@") ? 2 : 1).join("/");
}

/** The licences of the packages in the bundle, as their terms ask. */
function licences(names: string[]): string {
  const rule = `\n${"-".repeat(78)}\n\n`;
  const texts = names.map((name) => {
    const folder = join(here, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file ? readFileSync(join(folder, file), "utf8").replaceAll("\r", "").trim() : "";
    return `${name} ${version} (${license})\n\n${text}\n`;
  });
  return `What the console is built from, beside Keevo's own code.\n${rule}${texts.join(rule)}`;
}

const digest = (bytes: string | Uint8Array) => createHash("sha256").update(bytes).digest("hex").slice(0, 16);

/** Names the files by their digests in the document, adds icon and licences, and compresses all but the document. */
function packed(): Plugin {
  return {
    name: "packed",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_options, bundle) {
        const document = bundle["index.html"];
        if (document?.type !== "asset") throw new Error("there is no document");
        const files: Record<string, string | Uint8Array> = { "icon.svg": readFileSync(join(here, "icon.svg")) };
        const names = new Set(["@mantine/core", "uplot"]);
        for (const [name, file] of Object.entries(bundle)) {
          if (file === document) continue;
          files[name] = file.type === "chunk" ? file.code : file.source;
          if (file.type === "chunk") Object.keys(file.modules).forEach((id) => names.add(packageOf(id) ?? "uplot"));
          delete bundle[name];
        }
        files["licenses.txt"] = licences([...names].sort());
        let html = String(document.source).replaceAll(" crossorigin", "");
        for (const [name, source] of Object.entries(files)) {
          html = html.replaceAll(`/console/${name}"`, `/console/${name}?v=${digest(source)}"`);
          this.emitFile({ type: "asset", fileName: `${name}.gz`, source: gzipSync(source, { level: 9 }) });
        }
        document.source = html;
      },
    },
  };
}

export default defineConfig({
  base: "/console/",
  publicDir: false,
  esbuild: { jsx: "automatic", legalComments: "none" },
  plugins: [packed()],
  build: {
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    chunkSizeWarningLimit: 2_000,
    reportCompressedSize: false,
    rollupOptions: {
      // Packages mark what servers could render; here everything runs in the browser.
      onwarn: (warning, warn) => warning.code === "MODULE_LEVEL_DIRECTIVE" || warn(warning),
      output: {
        entryFileNames: "app.js",
        assetFileNames: (asset) => (asset.names.some((name) => name.endsWith(".css")) ? "app.css" : "[name][extname]"),
        inlineDynamicImports: true,
      },
    },
  },
});
