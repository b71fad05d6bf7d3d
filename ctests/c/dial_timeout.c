/* dial_timeout ADDRESS PORT MS: SO_SNDTIMEO bounds a blocking connect in total.
 * Prints "connect=ERRNO|OK took_ms=N". */
#include "address.h"
#include <sys/time.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int fd = open_socket(&to, 0);
    long limit = atol(argv[3]);
    struct timeval timeout = {.tv_sec = limit / 1000, .tv_usec = limit % 1000 * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout)) return 1;
    long start = now_ms();
    int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    printf("connect=%s took_ms=%ld\n", error ? error_name(error) : "OK", now_ms() - start);
    struct timeval after = {0};
    socklen_t length = sizeof after;
    getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &after, &length);
    printf("timeout_ms=%ld\n", after.tv_sec * 1000 + after.tv_usec / 1000);
    return error != 0;
}
