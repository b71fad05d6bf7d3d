/* cancel_pending connect ADDRESS PORT | cancel_pending lookup NAME: a thread is cancelled before it makes the process's
 * first call, which is where pthread_cancel acts. Prints "cancelled=N", and what the same call comes to afterwards,
 * "after=N". */
#include "address.h"
#include <netdb.h>
#include <pthread.h>

static char **arguments;
static pthread_barrier_t asked;

static int call(void) {
    if (!strcmp(arguments[1], "lookup")) {
        struct addrinfo *list = NULL;
        int code = getaddrinfo(arguments[2], "80", NULL, &list);
        if (!code) freeaddrinfo(list);
        return code;
    }
    struct address to = address_of(arguments[2], arguments[3]);
    int fd = open_socket(&to, 0), code = connect(fd, (void *)&to.storage, to.length);
    close(fd);
    return code;
}

static void *cancelled(void *unused) {
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_barrier_wait(&asked);
    pthread_barrier_wait(&asked);
    pthread_setcancelstate(state, NULL);
    call();
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    arguments = argv;
    pthread_t thread;
    void *result = NULL;
    pthread_barrier_init(&asked, NULL, 2);
    if (pthread_create(&thread, NULL, cancelled, NULL)) return 1;
    pthread_barrier_wait(&asked);
    pthread_cancel(thread);
    pthread_barrier_wait(&asked);
    pthread_join(thread, &result);
    printf("cancelled=%d after=%d\n", result == PTHREAD_CANCELED, call());
    return 0;
}
