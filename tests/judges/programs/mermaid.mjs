// Parses a Mermaid diagram; fails with what is wrong.
import fs from "node:fs";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("");
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import("mermaid");
const { diagramType } = await mermaid.parse(fs.readFileSync(process.argv[2], "utf8"));
console.log(diagramType);
