<?php
// streams.php URL COUNT: prints the body of each answer.
[, $url, $count] = $argv;
for ($n = 0; $n < $count; $n++) {
    $body = file_get_contents($url);
    if ($body === false) {
        exit(1);
    }
    echo $body;
}
