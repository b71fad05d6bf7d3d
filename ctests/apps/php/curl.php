<?php
// curl.php URL COUNT: prints the body of each answer and the peer, each of a handle of its own.
[, $url, $count] = $argv;
for ($n = 0; $n < $count; $n++) {
    $handle = curl_init($url);
    curl_setopt($handle, CURLOPT_RETURNTRANSFER, true);
    $body = curl_exec($handle);
    if ($body === false) {
        fwrite(STDERR, curl_error($handle) . "\n");
        exit(1);
    }
    $peer = curl_getinfo($handle, CURLINFO_PRIMARY_IP) . ':' . curl_getinfo($handle, CURLINFO_PRIMARY_PORT);
    echo trim($body), ' at ', $peer, "\n";
}
