<?php
// Calls a service of the mesh by name and by socket.
$stream = explode(' ', file_get_contents('http://greeter/'))[0];
$socket = fsockopen('greeter.default.svc', 80, $code, $message, 5);
fwrite($socket, "GET / HTTP/1.0\r\n\r\n");
$answer = stream_get_contents($socket);
preg_match('/greeter-\d/', $answer, $backend);
echo "worker=", getmypid(), " backend=$stream backend2=$backend[0]\n";
