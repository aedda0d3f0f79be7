#!/usr/bin/env bash
# The mesh by REST: log in, create an agent, chat, follow events, resume after a cut. Needs curl.
# GATHERING_URL=http://127.0.0.1:8080 GATHERING_EMAIL=... GATHERING_PASSWORD=... ./chat.sh
set -euo pipefail
url="${GATHERING_URL:-http://127.0.0.1:8080}"

# The first value of a field in JSON; scripts of your own will have jq.
field() { grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4 || true; }
json() { curl -fsS --noproxy '*' --max-time 30 -H 'content-type: application/json' "$@"; }

# Secrets go through standard input: arguments are seen by everybody on the machine.
token=$(printf '{"email": "%s", "password": "%s"}' "$GATHERING_EMAIL" "$GATHERING_PASSWORD" |
  json --data @- "$url/v1/auth/login" | field access_token)
as_me() { json -H @<(echo "authorization: Bearer $token") "$@"; }
echo "logged in"

create() { # A repeat with the same request_id gives the same agent.
  as_me -d "{\"agent\": {\"name\": \"$1\"}, \"request_id\": \"$RANDOM$RANDOM$RANDOM\"}" \
    "$url/v1/agents" | field agent_id
}
# Server-sent events; `filter.types` and `cursor` as for gRPC. Ends with the first that names $2.
follow() {
  grep -m 1 "\"agent_id\":\"$2\"" < <(
    as_me -N --max-time 60 -H 'accept: text/event-stream' -G "$url/v1/events:subscribe" \
      --data-urlencode "cursor=$1" -d filter.types=agent_created 2> /dev/null
  )
}

ada=$(create "Ada of curl")
cursor=$(follow start "$ada" | grep -o '"cursor":"[^"]*"' | tail -n 1 | cut -d '"' -f 4)

session=$(as_me -d "{\"agent_id\": \"$ada\"}" "$url/v1/sessions" | field session_id)
# One JSON object per line. The last one has `completed`, `failed` or `cancelled`: others mean a cut.
last=$(as_me -N -d '{"text": "Hello, who are you?"}' "$url/v1/sessions/$session:streamChat" |
  tee >(grep -o '"text_delta":.*' >&2) | tail -n 1)
[[ "$last" == *'"completed":'* ]] || { echo "the turn did not complete: $last" >&2; exit 1; }
echo "chatted"

grace=$(create "Grace of curl") # while nobody listens
follow "$cursor" "$grace" > /dev/null
echo "resumed after the cut: nothing was missed"
