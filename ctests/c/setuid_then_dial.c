/* setuid_then_dial UID NAME PORT: looks up and connects as root, then as UID, whose leader is another.
 * Prints "root=", "user=" with the backends, and as UID the peer of root's connection. */
#include "address.h"
#include <grp.h>
#include <netdb.h>

static int visit(const char *who, const char *name, const char *port, int *fd) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *list = NULL;
    int code = getaddrinfo(name, port, &hints, &list);
    if (code) {
        printf("%s=%s\n", who, gai_strerror(code));
        return 1;
    }
    *fd = socket(list->ai_family, SOCK_STREAM, 0);
    int error = connect(*fd, list->ai_addr, list->ai_addrlen) ? errno : 0;
    printf("%s=%s\n", who, error ? error_name(error) : "OK");
    if (!error) print_greeting(*fd);
    freeaddrinfo(list);
    return error != 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int roots, users, failed = visit("root", argv[2], argv[3], &roots);
    if (setgroups(0, NULL) || setgid(atoi(argv[1])) || setuid(atoi(argv[1]))) return 1;
    failed += visit("user", argv[2], argv[3], &users);
    print_peer("roots_peer", roots);
    return failed;
}
