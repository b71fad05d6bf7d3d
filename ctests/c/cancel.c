/* cancel connect ADDRESS PORT | cancel lookup NAME: pthread_cancel ends a thread in the call; the
 * process lives on and can do the same again. Prints "cancelled=N cleanups=N" after five rounds. */
#include "address.h"
#include <netdb.h>
#include <pthread.h>

static char **arguments;
static int by_name, cleanups;
static pthread_barrier_t ready;

static void cleanup(void *unused) { (void)unused, cleanups++; }

static void *call(void *unused) {
    pthread_cleanup_push(cleanup, NULL);
    pthread_barrier_wait(&ready);
    if (by_name) {
        struct addrinfo *list = NULL;
        for (;;)
            if (!getaddrinfo(arguments[2], "80", NULL, &list)) freeaddrinfo(list);
    } else {
        struct address to = address_of(arguments[2], arguments[3]);
        for (;;) {
            int fd = open_socket(&to, 0);
            connect(fd, (void *)&to.storage, to.length);
            close(fd);
        }
    }
    pthread_cleanup_pop(0);
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    arguments = argv;
    by_name = !strcmp(argv[1], "lookup");
    if (!by_name && argc < 4) return 2;
    int cancelled = 0;
    pthread_barrier_init(&ready, NULL, 2);
    for (int round = 0; round < 5; round++) {
        pthread_t thread;
        void *result = NULL;
        if (pthread_create(&thread, NULL, call, NULL)) return 1;
        pthread_barrier_wait(&ready);
        /* No proof hangs on this: it only lets the thread get into the call in most rounds. */
        usleep(20000);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        cancelled += result == PTHREAD_CANCELED;
    }
    printf("cancelled=%d cleanups=%d\n", cancelled, cleanups);
    return 0;
}
