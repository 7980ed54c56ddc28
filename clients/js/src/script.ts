/** The plain script: one global name. */

import { connect } from "./index.js";

Object.assign(globalThis, { sinapse: { connect } });
