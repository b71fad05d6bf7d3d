-- socket.lua HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer.
local socket = require("socket")

for _ = 1, arg[3] do
  local connection = assert(socket.connect(arg[1], arg[2]))
  local name = connection:receive()
  connection:send("ping\n")
  local echo = connection:receive()
  local address, port = connection:getpeername()
  print(name .. " " .. echo .. " at " .. address .. ":" .. port)
  connection:close()
end
