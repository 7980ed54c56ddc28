// A document, for frameworks that look for one as soon as they are loaded: import it first.

import { Window } from "happy-dom";

const window = new Window({ url: "https://app.example/" });
globalThis.window = window;
globalThis.document = window.document;
globalThis.navigator ??= window.navigator;
for (const name of Object.getOwnPropertyNames(window))
  if (/(Node|Element|Text|Comment|Fragment)$/.test(name)) globalThis[name] ??= window[name];
