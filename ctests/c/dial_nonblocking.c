/* dial_nonblocking ADDRESS PORT [MS]: connect on a non-blocking socket, poll, SO_ERROR, a second
 * connect, as event loops do; it polls for 10 s, or for so long. Prints "connect=ERRNO|OK took_ms=N so_error=ERRNO again=ERRNO|OK". */
#include "address.h"
#include <fcntl.h>
#include <poll.h>

static const char *name_of(int error) { return error ? error_name(error) : "OK"; }

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int fd = open_socket(&to, SOCK_NONBLOCK);
    long start = now_ms();
    int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    printf("connect=%s took_ms=%ld\n", name_of(error), now_ms() - start);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    if (error && error != EINPROGRESS) return 1;
    if (poll(&wait, 1, argc > 3 ? atoi(argv[3]) : 10000) != 1) return 1;
    int so_error = 0;
    socklen_t length = sizeof so_error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &so_error, &length);
    printf("so_error=%s\n", name_of(so_error));
    if (!(fcntl(fd, F_GETFL) & O_NONBLOCK)) printf("flags=lost\n");
    if (so_error) return 1;
    error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    printf("again=%s\n", name_of(error));
    print_peer("peer", fd);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    print_greeting(fd);
    return 0;
}
