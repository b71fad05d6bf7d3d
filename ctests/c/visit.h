/* Shared: a visit of a service, as a client makes it. */
#ifndef VISIT_H
#define VISIT_H
#include "address.h"
#include <netdb.h>

/* Looks NAME up, connects and reads a line: the backend's name, or the word for what failed. */
static inline const char *visit(const char *name, const char *port, char line[64]) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *list = NULL;
    if (getaddrinfo(name, port, &hints, &list)) return "unknown";
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failed = fd < 0 || connect(fd, list->ai_addr, list->ai_addrlen);
    const char *outcome = failed ? strerrorname_np(errno) : line;
    freeaddrinfo(list);
    size_t used = 0;
    while (!failed && used < 63 && read(fd, line + used, 1) == 1 && line[used] != '\n') used++;
    line[used] = 0;
    if (fd >= 0) close(fd);
    return outcome;
}

/* Whether a visit reached a backend. */
static inline int reached(const char *name, const char *port) {
    char line[64];
    return visit(name, port, line) == line && *line;
}
#endif
