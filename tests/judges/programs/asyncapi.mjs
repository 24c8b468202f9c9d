// Parses an AsyncAPI document, and prints each error and each warning.
import fs from "node:fs";
import { Parser } from "@asyncapi/parser";

const WARNING = 1; // errors are 0; what is above is advice
const { document, diagnostics } = await new Parser().parse(fs.readFileSync(process.argv[2], "utf8"));
for (const each of diagnostics.filter((found) => found.severity <= WARNING)) {
  console.log(`${each.code} at ${each.path.join("/")}: ${each.message}`);
}
process.exitCode = document === undefined ? 1 : 0;
