#!/usr/bin/env escript
%% httpc.escript URL COUNT: prints the body of each answer.
main([Url, Count]) ->
    {ok, _} = application:ensure_all_started(inets),
    [fetch(Url) || _ <- lists:seq(1, list_to_integer(Count))].

fetch(Url) ->
    {ok, {_, _, Body}} = httpc:request(get, {Url, [{"connection", "close"}]}, [], []),
    io:format("~s", [Body]).
