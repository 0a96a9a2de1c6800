// The application's own server: it serves the page, and signs a token for whoever says a name.
//
// A real one asks for a password first. The app's secret stays here: the browser gets a token for one user.
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const { KEEVO_API = "http://127.0.0.1:8000", KEEVO_APP_ID, KEEVO_KEY, KEEVO_APP_SECRET, PORT = "3000" } = process.env;
for (const [name, value] of Object.entries({ KEEVO_APP_ID, KEEVO_KEY, KEEVO_APP_SECRET })) {
  if (!value) {
    console.error(`server: ${name} is not set; see the tutorial`);
    process.exit(2);
  }
}

const here = dirname(fileURLToPath(import.meta.url));
// The client's build for browsers lies in its package, beside the build for Node.
const require = createRequire(join(process.env.MODULES ?? here, "/"));
const client = join(dirname(require.resolve("getstream/package.json")), "dist/js_min/getstream.js");
const FILES = {
  "/": [join(here, "index.html"), "text/html; charset=utf-8"],
  "/app.js": [join(here, "app.js"), "text/javascript; charset=utf-8"],
  "/getstream.js": [client, "text/javascript; charset=utf-8"],
};

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function userToken(user) {
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ user_id: user })}`;
  return `${body}.${createHmac("sha256", KEEVO_APP_SECRET).update(body).digest("base64url")}`;
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/session") {
    const user = url.searchParams.get("user") ?? "";
    if (!/^[a-z0-9_-]{1,64}$/.test(user)) {
      response.writeHead(400, { "content-type": "text/plain" }).end("user: 1 to 64 of a-z 0-9 _ -\n");
      return;
    }
    const session = { api: KEEVO_API, appId: KEEVO_APP_ID, key: KEEVO_KEY, token: userToken(user), user };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(session));
    return;
  }
  const file = FILES[url.pathname];
  if (!file) {
    response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
    return;
  }
  response.writeHead(200, { "content-type": file[1] }).end(await readFile(file[0]));
});
server.listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
