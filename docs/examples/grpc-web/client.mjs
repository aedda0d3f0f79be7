// gRPC-Web with nothing but fetch: the framing is five bytes. In a browser, of another origin, the
// edge must allow the page (GATHERING_EDGE__CORS_ORIGINS).
//
// Messages are encoded here by hand to show what goes over the wire; an application takes a generator
// (protoc-gen-grpc-web, protobuf-es, ...) and the contract from /descriptor.binpb.
const url = process.env.GATHERING_URL ?? "http://127.0.0.1:8080";

/** A length-delimited field: number, then bytes or text. */
const field = (number, value) => {
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
  return [...varint((number << 3) | 2), ...varint(bytes.length), ...bytes];
};
const varint = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]);

/** Yield [number, bytes] of each length-delimited field of a message. */
function* fields(bytes) {
  let at = 0;
  const read = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = read();
    const wire = key & 7;
    if (wire === 0) read();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else {
      const length = read();
      yield [key >>> 3, bytes.subarray(at, (at += length))];
    }
  }
}
const text = (bytes, number) => {
  for (const [n, value] of fields(bytes)) if (n === number) return new TextDecoder().decode(value);
  return "";
};

/** Yield the answers of a call; throw what its trailers say. An end without trailers is a cut. */
async function* call(method, message, token, signal) {
  const head = new DataView(new ArrayBuffer(5));
  head.setUint32(1, message.length);
  const answer = await fetch(`${url}/${method}`, {
    method: "POST",
    headers: {
      "content-type": "application/grpc-web+proto",
      "x-grpc-web": "1",
      ...(token && { authorization: `Bearer ${token}` }),
    },
    body: Uint8Array.from([...new Uint8Array(head.buffer), ...message]),
    signal,
  });
  refuse(Object.fromEntries(answer.headers)); // an error before any answer has no body
  let rest = new Uint8Array();
  for await (const chunk of answer.body) {
    rest = Uint8Array.from([...rest, ...chunk]);
    while (rest.length >= 5) {
      const length = new DataView(rest.buffer, 1, 4).getUint32(0);
      if (rest.length < 5 + length) break;
      const body = rest.slice(5, 5 + length);
      const trailers = rest[0] & 128;
      rest = rest.slice(5 + length);
      if (!trailers) yield body;
      else return refuse(Object.fromEntries(lines(body)));
    }
  }
  throw new Error("the answer was cut");
}
const lines = (bytes) =>
  new TextDecoder().decode(bytes).trim().split("\r\n").map((line) => line.split(/: ?(.*)/s, 2));
function refuse(trailers) {
  const status = trailers["grpc-status"] ?? "0";
  if (status !== "0") {
    throw new Error(`${status}: ${decodeURIComponent(trailers["grpc-message"] ?? "")}`);
  }
}

async function unary(method, message, token) {
  let found;
  for await (const answer of call(method, message, token)) found = answer;
  return found;
}

// LoginRequest {1: email, 2: password}; Tokens {1: access_token}
const { GATHERING_EMAIL: email, GATHERING_PASSWORD: password } = process.env;
const login = [...field(1, email), ...field(2, password)];
const token = text(await unary("gathering.gateway.v1.AuthService/Login", login), 1);
console.log("logged in");

// SubscribeRequest {1: filter {1: types}}; SubscribeResponse {2: checkpoint {1: cursor}, 1: event}
const leaving = new AbortController();
const wanted = field(1, field(1, "agent_created"));
let made;
for await (const frame of call(
  "gathering.gateway.v1.EventService/Subscribe", wanted, token, leaving.signal,
)) {
  const [[kind]] = [...fields(frame)];
  if (kind === 2 && !made) {
    // CreateAgentRequest {2: agent {2: name}}; Agent {1: agent_id}
    const agent = field(2, field(2, "Ada of the web"));
    made = text(await unary("gathering.agent.v1.AgentService/CreateAgent", agent, token), 1);
  }
  if (kind === 1 && made && new TextDecoder().decode(frame).includes(made)) break;
}
leaving.abort();
console.log("saw the agent that was made");
try {
  await unary("gathering.agent.v1.AgentService/GetAgent", field(1, "nonsense"), token);
} catch (error) {
  console.log(`refused as it should be: ${error.message}`);
}
