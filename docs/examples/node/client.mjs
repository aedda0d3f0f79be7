// Log in, create an agent, chat, follow events and resume after a cut.
//
// Nothing is generated: the contract comes from the edge when the program starts.
// GATHERING_URL=http://127.0.0.1:8080 GATHERING_EMAIL=... GATHERING_PASSWORD=... node client.mjs
import { randomUUID } from "node:crypto";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const url = new URL(process.env.GATHERING_URL ?? "http://127.0.0.1:8080");
const descriptors = await (await fetch(new URL("/descriptor.binpb", url))).arrayBuffer();
const { gathering } = grpc.loadPackageDefinition(
  protoLoader.loadFileDescriptorSetFromBuffer(Buffer.from(descriptors), {
    keepCase: true, // the contract's names: agent_id
    longs: String, // positions do not fit into a number
    enums: String,
    oneofs: true, // message.frame names the field that is set
  }),
);

const secure = url.protocol === "https:";
const address = `${url.hostname}:${url.port || (secure ? 443 : 80)}`;
const credentials = secure ? grpc.credentials.createSsl() : grpc.credentials.createInsecure();
const connect = (Service) => new Service(address, credentials, { "grpc.enable_http_proxy": 0 });
const auth = connect(gathering.gateway.v1.AuthService);
const agents = connect(gathering.agent.v1.AgentService);
const sessions = connect(gathering.agent.v1.SessionService);
const turns = connect(gathering.agent.v1.TurnService);
const events = connect(gathering.gateway.v1.EventService);

const metadata = new grpc.Metadata();

/** Call a unary RPC; every call has a deadline. */
function call(client, method, request) {
  const deadline = Date.now() + 30_000;
  return new Promise((resolve, reject) =>
    client[method](request, metadata, { deadline }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    ),
  );
}

/** Yield the frames of a turn. The last is `completed`, `failed` or `cancelled`: others mean a cut. */
async function* chat(session_id, text) {
  const request = { session_id, text, request_id: randomUUID() };
  for await (const { frame } of turns.StreamChat(request, metadata)) {
    yield frame;
    if (["completed", "failed", "cancelled"].includes(frame.frame)) return;
  }
  throw new Error("the stream was cut: call WatchTurn with the last cursor");
}

/**
 * Yield events from a cursor on. Whoever leaves the loop keeps `place.cursor`, and a stream that is
 * cut is begun again there: each event comes once.
 */
async function* follow(place, types) {
  for (;;) {
    const request = { cursor: place.cursor, filter: { types } };
    const stream = events.Subscribe(request, metadata);
    try {
      for await (const message of stream) {
        const frame = message[message.frame];
        place.cursor = frame.cursor;
        if (message.frame === "event") yield frame.event;
        if (message.frame === "checkpoint") place.stands?.();
      }
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error;
    } finally {
      stream.cancel();
    }
  }
}

const email = process.env.GATHERING_EMAIL;
const password = process.env.GATHERING_PASSWORD;
const tokens = await call(auth, "Login", { email, password });
metadata.set("authorization", `Bearer ${tokens.access_token}`);
console.log("logged in");

const create = (name) =>
  call(agents, "CreateAgent", { agent: { name }, request_id: randomUUID() });
const place = { cursor: "" };
const stands = new Promise((resolve) => (place.stands = resolve));
const seen = [];
const first = (async () => {
  for await (const event of follow(place, ["agent_created"])) {
    seen.push(event.agent_created.agent_id);
    return; // leaves the stream as a lost connection would
  }
})();
await stands;
const ada = await create("Ada of Node");
await first;

const session = await call(sessions, "CreateSession", {
  agent_id: ada.agent_id,
  request_id: randomUUID(),
});
for await (const frame of chat(session.session_id, "Hello, who are you?")) {
  if (frame.frame === "text_delta") process.stdout.write(frame.text_delta.text);
  if (frame.frame === "failed") throw new Error(frame.failed.error_message);
}
console.log("\nchatted");

const grace = await create("Grace of Node"); // while nobody listens
for await (const event of follow(place, ["agent_created"])) {
  seen.push(event.agent_created.agent_id);
  if (event.agent_created.agent_id === grace.agent_id) break;
}
if (seen.at(0) !== ada.agent_id || seen.at(-1) !== grace.agent_id) throw new Error(`saw ${seen}`);
console.log("resumed after the cut: nothing was missed");
for (const client of [auth, agents, sessions, turns, events]) client.close();
