/* dials_many ADDRESS PORT COUNT [from SOURCE] [hold NAME N]: COUNT blocking connects, one after the other, to
 * backends that greet with their name. With `from`, the first is bound to SOURCE and each further one to the next
 * address. With `hold`, it first connects until N connections of the backend NAME are open, waits for a line on
 * standard input, and then ends none of the COUNT before the last.
 * Prints a line for each of the COUNT, in order: the backend's name, the ERRNO of the connect, or "closed" when the
 * connection ended without a greeting. Ends each with a RST, so that no port stays taken. */
#include "address.h"

enum { NAME_ROOM = 32, ATTEMPTS = 100000 };

static struct address to;

/* Connects, and reads the greeting into `said`; the socket, or -1. */
static int visit(const struct address *from, char said[NAME_ROOM]) {
    struct linger reset = {.l_onoff = 1};
    int fd = open_socket(&to, 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    int failed = (from && bind(fd, (const void *)&from->storage, from->length))
                 || connect(fd, (const void *)&to.storage, to.length);
    if (failed) {
        strcpy(said, error_name(errno));
        close(fd);
        return -1;
    }
    size_t used = 0;
    ssize_t got;
    while (used < NAME_ROOM - 1 && (got = read(fd, said + used, NAME_ROOM - 1 - used)) > 0) {
        used += got;
        if (said[used - 1] != '\n') continue;
        said[used - 1] = 0;
        return fd;
    }
    strcpy(said, "closed");
    close(fd);
    return -1;
}

static int hold(const char *name, int count) {
    for (int attempts = 0; count > 0; attempts++) {
        char said[NAME_ROOM];
        int fd = visit(NULL, said);
        if (fd >= 0 && !strcmp(said, name)) count--;
        else if (fd >= 0) close(fd);
        if (attempts == ATTEMPTS) return 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    to = address_of(argv[1], argv[2]);
    struct address from = {0};
    int keeps = 0;
    for (int i = 4; i < argc;) {
        if (i + 1 < argc && !strcmp(argv[i], "from")) from = address_of(argv[i + 1], "0"), i += 2;
        else if (i + 2 < argc && !strcmp(argv[i], "hold")) {
            if (!hold(argv[i + 1], atoi(argv[i + 2])) || getchar() == EOF) return 1;
            keeps = 1, i += 3;
        } else return 2;
    }
    struct sockaddr_in *source = (void *)&from.storage;
    for (int count = atoi(argv[3]); count > 0; count--) {
        char said[NAME_ROOM];
        int fd = visit(from.length ? &from : NULL, said);
        puts(said);
        if (fd >= 0 && !keeps) close(fd);
        source->sin_addr.s_addr = htonl(ntohl(source->sin_addr.s_addr) + 1);
    }
    return 0;
}
