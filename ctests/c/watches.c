/* watches ADDRESS PORT [nonblocking]: connects to an echo backend again and again, until standard input ends; for each
 * change of who answers, prints the wall clock in microseconds and the name, or the word for what failed. */
#include "address.h"
#include <fcntl.h>
#include <poll.h>

/* As event loops connect; the errno of the outcome, or 0. */
static int connect_nonblocking(int fd, const struct address *to) {
    int error = 0;
    socklen_t length = sizeof error;
    if (!connect(fd, (void *)&to->storage, to->length)) return 0;
    if (errno != EINPROGRESS) return errno;
    struct pollfd writable = {fd, POLLOUT, 0};
    if (poll(&writable, 1, 5000) != 1) return ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)) return errno;
    if (!error) fcntl(fd, F_SETFL, 0);
    return error;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int nonblocking = argc > 3 && !strcmp(argv[3], "nonblocking");
    char last[64] = "", input;
    setvbuf(stdout, NULL, _IOLBF, 0);
    fcntl(0, F_SETFL, O_NONBLOCK);
    while (read(0, &input, 1)) {
        char name[64] = {0};
        int fd = open_socket(&to, nonblocking ? SOCK_NONBLOCK : 0);
        int failed = nonblocking ? connect_nonblocking(fd, &to) : connect(fd, (void *)&to.storage, to.length);
        if (failed) strcpy(name, error_name(nonblocking ? failed : errno));
        size_t used = 0;
        while (!failed && used < 63 && read(fd, name + used, 1) == 1 && name[used] != '\n') used++;
        if (!failed) name[used] = 0;
        close(fd);
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (strcmp(name, last)) printf("%ld %s\n", now.tv_sec * 1000000 + now.tv_nsec / 1000, name);
        strcpy(last, name);
        usleep(500);
    }
    return 0;
}
