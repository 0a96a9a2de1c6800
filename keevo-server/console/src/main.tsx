// The console's start: styles, theme, and who is logged in.
import "@mantine/core/styles.css";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { MantineProvider } from "@mantine/core";
import { setNonce } from "get-nonce";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Console } from "./console";
import { theme } from "./theme";

// The content security policy lets only styles with this nonce be added.
const nonce = document.querySelector<HTMLMetaElement>('meta[name="keevo-nonce"]')?.content ?? "";
setNonce(nonce);
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <MantineProvider theme={theme} defaultColorScheme="auto" getStyleNonce={() => nonce}>
        <Console />
      </MantineProvider>
    </StrictMode>,
  );
}
