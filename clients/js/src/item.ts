/**
 * What a server sends, in any transport: a message; or, with nothing but an id, a word on where to
 * resume from.
 *
 * Ids are `<epoch>-<counter>`. The counter goes up over all channels of a server, also when the
 * epoch changes; only data that are lost take it back, and then the server says `reset`.
 */
export interface Item {
  event?: string;
  data?: string;
  id?: string | undefined;
}

export const counter = (id: string): number => Number(id.slice(id.indexOf("-") + 1));

const epoch = (id: string): string => id.slice(0, id.indexOf("-"));

/** Whether who is at `place` has had everything up to `id`. Across epochs, only the server knows. */
export const hasReached = (place: string | undefined, id: string | undefined): boolean =>
  place !== undefined &&
  id !== undefined &&
  epoch(place) === epoch(id) &&
  counter(place) >= counter(id);

/** Whether only the server knows if `id` is new to who is at `place`: data may have been lost. */
export const isUnclear = (place: string | undefined, id: string | undefined): boolean =>
  place !== undefined &&
  id !== undefined &&
  epoch(place) !== epoch(id) &&
  counter(place) >= counter(id);

/** Whether it is a message that is not retained: delivered at most once, and never replayed. */
export const isPlain = (item: Item): boolean =>
  item.data !== undefined && item.id === undefined && item.event !== "reset";
