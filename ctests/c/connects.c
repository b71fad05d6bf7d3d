/* connects NAME PORT ROUNDS: eight threads look NAME up and connect to it, each ROUNDS times; every other connect is
 * non-blocking. Prints "peer=ADDRESS:PORT" of the last one, then "connected=N". */
#include "address.h"
#include <netdb.h>
#include <poll.h>
#include <pthread.h>

enum { THREADS = 8 };
static char **arguments;

/* A lookup and a connect; whether it succeeded. */
static int visit(int flags, int show) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *list = NULL;
    if (getaddrinfo(arguments[1], arguments[2], &hints, &list)) return 0;
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    int failed = connect(fd, list->ai_addr, list->ai_addrlen) && errno != EINPROGRESS;
    freeaddrinfo(list);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int error = -1;
    socklen_t length = sizeof error;
    if (!failed && poll(&wait, 1, 20000) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (show) print_peer("peer", fd);
    close(fd);
    return error == 0;
}

static void *rounds(void *unused) {
    (void)unused;
    long connected = 0;
    for (int i = atoi(arguments[3]); i > 0; i--) connected += visit(i % 2 ? SOCK_NONBLOCK : 0, 0);
    return (void *)connected;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    arguments = argv;
    pthread_t threads[THREADS];
    long connected = 0;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, rounds, NULL)) return 1;
    for (int i = 0; i < THREADS; i++) {
        void *one = NULL;
        pthread_join(threads[i], &one);
        connected += (long)one;
    }
    int last = visit(0, 1);
    printf("connected=%ld\n", connected);
    return !last || connected != (long)THREADS * atoi(argv[3]);
}
