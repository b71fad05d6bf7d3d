/* Cancels a thread inside a connect and one about to look a name up; the process goes on. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in full;

static void *dial(void *ready) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    write(*(int *)ready, "x", 1);
    connect(fd, (struct sockaddr *)&full, sizeof full);
    return NULL;
}

static void *resolve(void *ready) {
    struct addrinfo *list;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    write(*(int *)ready, "x", 1);
    sleep(1);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    for (;;)
        if (getaddrinfo("no-such-name.shop.example", "80", NULL, &list) == 0) freeaddrinfo(list);
    return NULL;
}

static void check(void *(*body)(void *)) {
    int pipes[2];
    char byte;
    pthread_t thread;
    void *result;
    pipe(pipes);
    pthread_create(&thread, NULL, body, &pipes[1]);
    read(pipes[0], &byte, 1);
    usleep(200000); /* into the call; too early is no failure either */
    pthread_cancel(thread);
    pthread_join(thread, &result);
    puts(result == PTHREAD_CANCELED ? "cancelled" : "returned");
}

int main(void) {
    /* A listener whose queue is full: further connects hang. */
    int listener = socket(AF_INET, SOCK_STREAM, 0), i;
    socklen_t length = sizeof full;
    full.sin_family = AF_INET;
    full.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(listener, (struct sockaddr *)&full, sizeof full);
    listen(listener, 0);
    getsockname(listener, (struct sockaddr *)&full, &length);
    for (i = 0; i < 8; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fd, (struct sockaddr *)&full, sizeof full);
    }
    check(dial);
    check(resolve);
    puts("alive");
    return 0;
}
