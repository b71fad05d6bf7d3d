#!/usr/bin/env escript
%% tcp.escript HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer.
main([Host, Port, Count]) ->
    [dial(Host, list_to_integer(Port)) || _ <- lists:seq(1, list_to_integer(Count))].

dial(Host, Port) ->
    {ok, Socket} = gen_tcp:connect(Host, Port, [binary, {packet, line}, {active, false}], 10000),
    {ok, Name} = gen_tcp:recv(Socket, 0),
    ok = gen_tcp:send(Socket, "ping\n"),
    {ok, Echo} = gen_tcp:recv(Socket, 0),
    {ok, {Address, PeerPort}} = inet:peername(Socket),
    io:format("~s ~s at ~s:~w~n", [string:trim(Name), string:trim(Echo), inet:ntoa(Address), PeerPort]),
    gen_tcp:close(Socket).
