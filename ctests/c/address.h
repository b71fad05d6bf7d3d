/* Shared by the programs here: socket addresses from text, and as text. */
#ifndef ADDRESS_H
#define ADDRESS_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The name of an errno. glibc has strerrorname_np only since 2.32, musl has none. */
static inline const char *error_name(int error) {
    switch (error) {
#define NAMED(name) \
    case name: return #name;
        NAMED(EACCES) NAMED(EADDRINUSE) NAMED(EADDRNOTAVAIL) NAMED(EAFNOSUPPORT) NAMED(EAGAIN) NAMED(EALREADY)
        NAMED(EBADF) NAMED(ECHILD) NAMED(ECONNABORTED) NAMED(ECONNREFUSED) NAMED(ECONNRESET) NAMED(EFAULT)
        NAMED(EHOSTUNREACH) NAMED(EINPROGRESS) NAMED(EINTR) NAMED(EINVAL) NAMED(EISCONN) NAMED(EMFILE)
        NAMED(ENETUNREACH) NAMED(ENFILE) NAMED(ENOBUFS) NAMED(ENOENT) NAMED(ENOMEM) NAMED(ENOSYS) NAMED(ENOTCONN)
        NAMED(ENOTSOCK) NAMED(EPERM) NAMED(EPIPE) NAMED(EPROTOTYPE) NAMED(ETIMEDOUT)
#undef NAMED
    default: return "UNNAMED";
    }
}

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};

/* Digits only. "::ffff:a.b.c.d" gives a v4-mapped address of AF_INET6. */
static inline struct address address_of(const char *text, const char *port) {
    struct address address = {0};
    struct sockaddr_in *v4 = (void *)&address.storage;
    struct sockaddr_in6 *v6 = (void *)&address.storage;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(atoi(port));
        address.length = sizeof *v4;
    } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(atoi(port));
        address.length = sizeof *v6;
    } else {
        fprintf(stderr, "%s is no address\n", text);
        exit(2);
    }
    return address;
}

static inline void print_peer(const char *key, int fd) {
    struct sockaddr_storage storage = {0};
    socklen_t length = sizeof storage;
    char text[INET6_ADDRSTRLEN] = "";
    if (getpeername(fd, (void *)&storage, &length)) {
        printf("%s=error:%d\n", key, errno);
        return;
    }
    if (storage.ss_family == AF_INET6) {
        struct sockaddr_in6 *v6 = (void *)&storage;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
        printf("%s=[%s]:%d length=%d\n", key, text, ntohs(v6->sin6_port), (int)length);
    } else {
        struct sockaddr_in *v4 = (void *)&storage;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
        printf("%s=%s:%d length=%d\n", key, text, ntohs(v4->sin_port), (int)length);
    }
}

/* The first line that an echo backend sends: its name. */
static inline void print_greeting(int fd) {
    char line[128];
    size_t used = 0;
    while (used < sizeof line - 1 && read(fd, line + used, 1) == 1 && line[used] != '\n') used++;
    line[used] = 0;
    printf("backend=%s\n", line);
}

static inline long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline int open_socket(const struct address *to, int flags) {
    int fd = socket(to->storage.ss_family, SOCK_STREAM | flags, 0);
    if (fd < 0) {
        perror("socket");
        exit(1);
    }
    return fd;
}

/* Connects or exits with "connect=ERRNO". */
static inline int connected(const struct address *to) {
    int fd = open_socket(to, 0);
    if (connect(fd, (const void *)&to->storage, to->length)) {
        printf("connect=%s\n", error_name(errno));
        exit(1);
    }
    return fd;
}
#endif
