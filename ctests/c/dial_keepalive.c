/* dial_keepalive ADDRESS PORT [own]: the keepalive of a socket before and after a connect; with "own" the program sets
 * its own first. Prints "before=", "connect=OK|ERRNO" and "after=", each as SO_KEEPALIVE/probes/idle/interval. */
#include "address.h"
#include <netinet/tcp.h>

static int number(int fd, int level, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    getsockopt(fd, level, name, &value, &length);
    return value;
}

static void print_keepalive(const char *key, int fd) {
    printf("%s=%d/%d/%d/%d\n", key, number(fd, SOL_SOCKET, SO_KEEPALIVE), number(fd, IPPROTO_TCP, TCP_KEEPCNT),
           number(fd, IPPROTO_TCP, TCP_KEEPIDLE), number(fd, IPPROTO_TCP, TCP_KEEPINTVL));
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int fd = socket(to.storage.ss_family, SOCK_STREAM, 0), on = 1, idle = 33;
    if (argc > 3) {
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    }
    print_keepalive("before", fd);
    int result = connect(fd, (void *)&to.storage, to.length);
    printf("connect=%s\n", result ? error_name(errno) : "OK");
    print_keepalive("after", fd);
    return result != 0;
}
