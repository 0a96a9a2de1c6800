// Which app a page is about.
import { Select } from "@mantine/core";
import type { App } from "./api";
import { useAsk } from "./hooks";

/** The apps whose feeds or chat may be read. */
export function useApps(what: "feeds" | "chat") {
  const asked = useAsk<{ apps: App[] }>("apps");
  return { ...asked, apps: asked.data?.apps.filter((app) => app[what]) };
}

export function AppChoice({ apps, app, choose }: { apps: App[]; app: number; choose: (app: number) => void }) {
  return (
    <Select
      aria-label="App"
      w={220}
      allowDeselect={false}
      searchable={apps.length > 8}
      value={String(app)}
      onChange={(value) => value && choose(Number(value))}
      data={apps.map((one) => ({ value: String(one.id), label: one.name ? `${one.name} (app ${one.id})` : `App ${one.id}` }))}
    />
  );
}
