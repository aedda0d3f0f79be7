"""Name the field that the transcoder refuses, as the services do.

Its message is a sentence that begins with the path of the field, which it takes from the contract
and not from what the client sent. Indexes are left out: the transcoder's are not always right.
"""

from __future__ import annotations

from gathering_gateway.envoy.typed import FIELD_IN_MESSAGE

NAME_FIELD = f"""
local MARK = "{FIELD_IN_MESSAGE}"
local SCALAR = "^invalid value Starting an object on a scalar field for type ([%w_]+)$"

local function named(message)
  local unknown = message:match('^Could not find field \\\\"([%w_]+)\\\\"')
  if unknown then return unknown, "is unknown" end
  local path, problem = message:match("^([%w_%.%[%]]*): (.+)$")
  if not path then return nil end
  path = path:gsub("%[%d+%]", "")
  local last = problem:match(SCALAR)
  if last and path:match("[%w_]*$") ~= last then
    path = path == "" and last or path .. "." .. last
  end
  if path == "" then return nil end
  return path, problem
end

function envoy_on_response(handle)
  if not handle:headers():get(MARK) then return end
  handle:headers():remove(MARK)
  local buffer = handle:body()
  if not buffer then return end
  local text = buffer:getBytes(0, buffer:length())
  -- Names are sorted, so that what clients sent stands last.
  local before, message = text:match('^(.-%])(,"message":".*)$')
  local path, problem = (message or ""):match('^,"message":"(.*)"}}%s*$'), nil
  if path then path, problem = named(path) end
  if not path then return end
  buffer:setBytes(before:sub(1, -2)
    .. ',{{"@type":"type.googleapis.com/google.rpc.BadRequest","field_violations":[{{"field":"'
    .. path .. '","description":"' .. problem .. '"}}]}}]' .. message)
end
"""
