// One WebSocket for events and a chat. Node 22 and browsers have what this needs.
const url = process.env.GATHERING_URL ?? "http://127.0.0.1:8080";

async function post(path, body, token) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const login = { email: process.env.GATHERING_EMAIL, password: process.env.GATHERING_PASSWORD };
const { access_token: token } = await post("/v1/auth/login", login);
const { agent_id } = await post("/v1/agents", { agent: { name: "Ada of the socket" } }, token);
const { session_id } = await post("/v1/sessions", { agent_id }, token);
console.log("logged in");

// Browsers can set no header: the token goes as a subprotocol, which no log of a proxy shows.
const socket = new WebSocket(url.replace(/^http/, "ws") + "/ws", ["gathering.v1", `bearer.${token}`]);
const say = (frame) => socket.send(JSON.stringify(frame));
socket.onopen = () => say({ id: "events", subscribe: { filter: { types: ["turn_completed"] } } });

let cursor; // of the last frame of `events`: where the next connection would go on
let completed, seen;
socket.onmessage = ({ data }) => {
  const frame = JSON.parse(data);
  if (frame.error) throw new Error(`${frame.id}: ${frame.error.message}`);
  if (frame.reconnect) throw new Error(`connect again, and subscribe with ${cursor}`);
  const { subscribe, stream_chat } = frame.message ?? {};
  if (subscribe) {
    const [[kind, content]] = Object.entries(subscribe);
    if (kind === "checkpoint" && !cursor) {
      say({ id: "chat", stream_chat: { session_id, text: "Hello, who are you?" } });
    }
    cursor = content.cursor;
    if (kind === "event") seen = content.event.turn_completed.turn_id;
  }
  const { text_delta, completed: turn } = stream_chat?.frame ?? {};
  if (text_delta) process.stdout.write(text_delta.text);
  if (turn) completed = turn.turn_id;
  if (completed && seen === completed) socket.close(1000);
};
socket.onclose = ({ code }) => console.log(`\nchatted, and saw its event; closed with ${code}`);
