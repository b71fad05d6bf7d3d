<?php
// sockets.php HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer.
[, $host, $port, $count] = $argv;
for ($n = 0; $n < $count; $n++) {
    $socket = fsockopen($host, (int) $port, timeout: 10);
    if (!$socket) {
        exit(1);
    }
    $name = trim(fgets($socket));
    fwrite($socket, "ping\n");
    echo $name, ' ', trim(fgets($socket)), ' at ', stream_socket_get_name($socket, true), "\n";
    fclose($socket);
}
