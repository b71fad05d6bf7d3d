/* A library whose constructor starts a thread that looks up and connects, and waits for it. Says how it went. */
#define _GNU_SOURCE
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void *visit(void *unused) {
    (void)unused;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *list = NULL;
    if (getaddrinfo("greeter", "80", &hints, &list)) return "unknown";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int failed = connect(fd, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    close(fd);
    return failed ? "refused" : "connected";
}

__attribute__((constructor)) static void start(void) {
    pthread_t thread;
    void *result = "no thread";
    if (!pthread_create(&thread, NULL, visit, NULL)) pthread_join(thread, &result);
    dprintf(1, "constructor=%s\n", (char *)result);
}
