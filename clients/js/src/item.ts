/**
 * Ids, which say where a stream is.
 *
 * They are `<epoch>-<counter>`, or several of them with dots between, one for each Redis of the
 * server. Such a part may say the name of its Redis, `<name>_<epoch>-<counter>`; otherwise that is
 * its number. The counter goes up over all channels of a Redis, also when the epoch changes; only data
 * that are lost take it back, and then the server says `reset`. What a message's own part is
 * cannot be told from its id alone, but its other parts are where its stream has been before.
 *
 * While a stream gets the past of channels, the part says how far it has: `<epoch>-<counter>-<past>`
 * comes after `<epoch>-<counter>`, and `<epoch>-<counter>-<past>-0`, that of a new stream, before.
 */

import type { Item } from "./types.js";

interface Part {
  name: string;
  /** The name as the id has it, empty without one. */
  tag: string;
  /** Without it. */
  own: string;
  epoch: string;
  counter: number;
  /** Within a past: below 0 in that of a new stream. */
  rank: number;
}

type Place = string | undefined;

const parts = (id: Place): Part[] =>
  (id ?? "").split(".").map((whole, number) => {
    const [, tag = "", own] = whole.match(/(.*_)?(.*)/) as unknown as [string, string | undefined, string];
    const [epoch = "", counter = -1, past, isNew] = own.split("-");
    const rank = past ? (isNew ? +past - 1e15 : +past + 1) : 0;
    return { name: tag || `${number}_`, tag, own, epoch, counter: +counter, rank };
  });

/** The parts of `id`, each with that of the same Redis in `place`. */
const beside = (place: Place, id: string): [Part, Part][] => {
  const here = parts(place);
  return parts(id).map((part) => [here.find(({ name }) => name === part.name) ?? parts("")[0]!, part]);
};

const isBefore = (here: Part, there: Part): boolean =>
  here.counter < there.counter || (here.counter === there.counter && here.rank < there.rank);

/** Whether the message with `id` is new to who is at `place`. */
export const isNew = (place: Place, id: string): boolean =>
  beside(place, id).some(([here, there]) => isBefore(here, there));

/**
 * Where somebody is who was at `place`, and has come to `id`. With `isLost`, where data are lost, of
 * which a new epoch tells: the Redis of the other parts have lost none. A counter of 0 says that the
 * server does not know any more where they were there.
 */
export const further = (place: Place, id: string, isLost: unknown): string =>
  beside(place, id)
    .map(
      ([here, there]) =>
        there.tag +
        (there.counter && isBefore(there, here) && !(isLost && here.epoch !== there.epoch) ? here : there).own,
    )
    .join(".");

/** The place of somebody new who is where `id` is, and has had nothing of the past of channels. */
export const beforePast = (id: string): string =>
  id.split(".").map((part) => `${part.split("-", 2).join("-")}-0-0`).join(".");

/** Whether who is at `place` has had everything up to `id`. Across epochs, only the server knows. */
export const hasReached = (place: Place, id: Place): boolean =>
  !!id &&
  beside(place, id).every(
    ([here, there]) =>
      here.epoch === there.epoch && !(here.rank < 0 && there.rank >= 0) && !isBefore(here, there),
  );

/** Whether only the server knows if `id` is new to who is at `place`: data may have been lost. */
export const isUnclear = (place: Place, id: Place): boolean =>
  !!id &&
  beside(place, id).some(
    ([here, there]) => here.epoch !== there.epoch && here.counter >= there.counter,
  );

/** Whether it is a message that is not retained: delivered at most once, and never replayed. */
export const isPlain = ({ channel, id }: Item): boolean => !!channel && !id;

/** Whether it says that messages are missing: nothing else of the server's own has data here. */
export const isReset = ({ channel, data }: Item): boolean => !channel && !!data;
