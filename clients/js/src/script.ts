/** The plain script: one global name. */

import { connect } from "./index.js";

(globalThis as Record<string, unknown>)["sinapse"] = { connect };
