// Follows the ops of a ledger with the EventStoreDB client for Node, and shows
// what every subscriber needs: a checkpoint, a filter, and going on by itself
// after the subscription was dropped.
//
//   SUBSCRIBE_TO='esdb://reader:secret@writ.example:2113?tlsCAFile=ca.crt' \
//     node subscribe.mjs ops.checkpoint [op-]
//
// The connection string comes from the environment because it may hold a
// password, and everybody on a machine can read the arguments of its programs.
//
// Each event is delivered at least once: the checkpoint is stored after the
// event was handled, so an event whose handling was cut off comes again.
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { AccessDeniedError, EventStoreDBClient, START, streamNameFilter } from "@eventstore/db-client";

const minPause = 500; // milliseconds before the first try to subscribe again
const maxPause = 30_000;

const [file, prefix = "op-"] = process.argv.slice(2);
if (!file) {
  console.error("usage: node subscribe.mjs CHECKPOINT-FILE [STREAM-PREFIX]");
  process.exit(2);
}

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort());

// A position means something in one store alone, so each store needs a
// checkpoint file of its own.
function load() {
  if (!existsSync(file)) return START;
  const [, commit, prepare] = readFileSync(file, "utf8").match(/^(\d+)\/(\d+)\n$/) ?? [];
  if (!commit) throw new Error(`checkpoint ${file}: no position in it`);
  return { commit: BigInt(commit), prepare: BigInt(prepare) };
}

// store puts a position in the place of the one before, whole or not at all.
function store({ commit, prepare }) {
  const f = openSync(`${file}.new`, "w", 0o600);
  try {
    writeSync(f, `${commit}/${prepare}\n`);
    fsyncSync(f);
  } finally {
    closeSync(f);
  }
  renameSync(`${file}.new`, file);
}

// handle is where the work of a subscriber goes. If it throws, the event comes
// again.
async function handle(event, position) {
  console.log(`event ${position.commit} ${event.streamId}@${event.revision} ${event.type}`);
}

// subscribe follows once, until the subscription is dropped: then it throws, or
// returns. It reports by came() that something came.
async function subscribe(client, fromPosition, came) {
  const subscription = client.subscribeToAll({
    fromPosition, // exclusive: what comes is behind it
    filter: streamNameFilter({
      prefixes: [prefix],
      // The client tells of a checkpoint as soon as it arrives, before the events
      // that came earlier were handled. Storing it right there would skip them
      // after a crash, so it is queued behind them.
      checkpointReached: (s, checkpoint) => void s.push({ checkpoint }),
    }),
  });
  subscription.on("caughtUp", () => subscription.push({ told: "caught up" }));
  subscription.on("fellBehind", () => subscription.push({ told: "fell behind" }));
  const leave = () => subscription.unsubscribe().finally(() => subscription.destroy());
  stop.signal.addEventListener("abort", leave, { once: true });
  try {
    for await (const m of subscription) {
      if (m.told) {
        console.log(m.told);
      } else if (m.checkpoint) {
        store(m.checkpoint); // nothing up to here passed the filter: need not be searched again
      } else {
        const event = m.link ?? m.event;
        await handle(event, event.position);
        store(event.position);
      }
      came();
    }
  } finally {
    stop.signal.removeEventListener("abort", leave);
  }
}

const client = EventStoreDBClient.connectionString(process.env.SUBSCRIBE_TO ?? "");
for (let pause = minPause; !stop.signal.aborted; pause = Math.min(2 * pause, maxPause)) {
  const from = load();
  let dropped = new Error("the server ended the subscription");
  try {
    await subscribe(client, from, () => (pause = minPause));
  } catch (err) {
    dropped = err;
  }
  if (stop.signal.aborted) break;
  // A wrong user or password, or no right to read: trying again is of no use until
  // a person has done something.
  if (dropped instanceof AccessDeniedError) throw dropped;
  console.error(`dropped: ${dropped.message}; trying again in ${pause} ms`);
  await wait(pause, undefined, { signal: stop.signal }).catch(() => {});
}
await client.dispose();
