import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    // Whatever a test leaves unhandled fails the run.
    dangerouslyIgnoreUnhandledErrors: false,
    testTimeout: 30_000,
    // `N passed, N failed`, and the sizes that tests print.
    reporters: ["default"],
  },
});
