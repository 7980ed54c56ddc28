/** A handler of the page. */
export type Handler = (...told: any[]) => void;

/** Calls a handler of the page: what it throws is for the console, and hurts nobody else. */
export const call = (handler: Handler | undefined, ...told: unknown[]): void => {
  try {
    handler?.(...told);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
};
