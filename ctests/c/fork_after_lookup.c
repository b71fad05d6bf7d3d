/* fork_after_lookup NAME PORT COUNT: after a lookup, COUNT children each look up and connect on their
 * own (prefork servers). Prints one "backend=" line a child, then "failed=N". */
#include "address.h"
#include <netdb.h>
#include <sys/wait.h>

static int visit(const char *name, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *list = NULL;
    if (getaddrinfo(name, port, &hints, &list)) return 1;
    int fd = socket(list->ai_family, SOCK_STREAM, 0);
    int failed = connect(fd, list->ai_addr, list->ai_addrlen);
    if (!failed) print_greeting(fd);
    freeaddrinfo(list);
    fflush(stdout);
    return failed != 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int failed = visit(argv[1], argv[2]);
    for (int i = atoi(argv[3]); i > 0; i--)
        if (!fork()) _exit(visit(argv[1], argv[2]));
    int status;
    while (wait(&status) > 0) failed += status != 0;
    printf("failed=%d\n", failed);
    return failed != 0;
}
