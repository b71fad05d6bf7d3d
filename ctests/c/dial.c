/* dial ADDRESS PORT: a blocking connect to an echo backend; prints "connect=OK|ERRNO errno=N
 * took_ms=N", "peer=", "backend=" and what comes back for one line. errno is kept on success. */
#include "address.h"

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int fd = open_socket(&to, 0);
    long start = now_ms();
    errno = 77;
    int result = connect(fd, (void *)&to.storage, to.length);
    int error = errno;
    printf("connect=%s errno=%d took_ms=%ld\n", result ? error_name(error) : "OK", error,
           now_ms() - start);
    if (result) return 1;
    print_peer("peer", fd);
    print_greeting(fd);
    char line[16] = {0};
    if (write(fd, "ping\n", 5) != 5 || read(fd, line, sizeof line - 1) < 1) return 1;
    printf("echo=%s", line);
    /* A connected socket stays connected. */
    if (!connect(fd, (void *)&to.storage, to.length) || errno != EISCONN) return 1;
    return close(fd);
}
