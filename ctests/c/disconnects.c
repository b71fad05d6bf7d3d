/* disconnects ADDRESS PORT: a non-blocking connect that hangs is given up with AF_UNSPEC, and the socket connected anew,
 * until that one is made. Prints "hung=N", how many hung before, and the backend; gives up after 50. */
#include "address.h"
#include <fcntl.h>
#include <poll.h>

enum { TRIES = 50 };

static int is_made(int fd, const struct address *to) {
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int error = connect(fd, (void *)&to->storage, to->length) ? errno : 0;
    if (!error) return 1;
    return error == EINPROGRESS && poll(&wait, 1, 200) == 1 && !(wait.revents & POLLERR);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    int hung = 0, fd = open_socket(&to, SOCK_NONBLOCK);
    /* One that hangs comes first. */
    while (!hung && is_made(fd, &to)) {
        close(fd);
        fd = open_socket(&to, SOCK_NONBLOCK);
    }
    do {
        hung++;
        if (connect(fd, &nobody, sizeof nobody)) return 1;
    } while (!is_made(fd, &to) && hung < TRIES);
    printf("hung=%d\n", hung);
    if (hung == TRIES) return 1;
    print_peer("peer", fd);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    print_greeting(fd);
    return 0;
}
