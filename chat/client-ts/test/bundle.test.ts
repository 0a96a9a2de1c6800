// What the client costs a page.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
// @ts-expect-error -- a script without types
import { gzipBytes } from "../build.mjs";

const CORE_BYTES_MAX = 15 * 1024;
const REACT_BYTES_MAX = 2 * 1024;
const MORE_BYTES_MAX = 1024;

describe("the bundle", () => {
  it("is small", async () => {
    const sizes = await Promise.all([gzipBytes("index"), gzipBytes("react"), gzipBytes("more")]);
    const [core, react, more] = sizes as [number, number, number];
    console.log(`core: ${core} of ${CORE_BYTES_MAX} bytes, react: ${react} of ${REACT_BYTES_MAX}; minified and gzipped`);
    expect(core).toBeLessThanOrEqual(CORE_BYTES_MAX);
    // The hooks bring no second copy of the client.
    expect(react).toBeLessThanOrEqual(REACT_BYTES_MAX);
    expect(more).toBeLessThanOrEqual(MORE_BYTES_MAX);
  });

  it("has no dependencies, and React only as an optional peer", () => {
    const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as Record<string, any>;
    expect(manifest.dependencies).toBeUndefined();
    expect(manifest.peerDependenciesMeta).toEqual({ react: { optional: true } });
    expect(manifest.private).toBe(true);
    expect(manifest.license).toBe("Apache-2.0");
  });

  it("has a lock file that names no host", () => {
    const lock = readFileSync(new URL("../package-lock.json", import.meta.url), "utf8");
    expect(lock).not.toContain('"resolved"');
  });
});
