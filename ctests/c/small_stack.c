/* small_stack ADDRESS PORT: the process's first connect, and getpeername, in a thread with the smallest stack there is. */
#include "address.h"
#include <pthread.h>

static struct address to;
static int fd, error;

static void *dial(void *unused) {
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    (void)unused;
    error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    getpeername(fd, (void *)&peer, &length);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    to = address_of(argv[1], argv[2]);
    fd = open_socket(&to, 0);
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    if (pthread_attr_setstacksize(&small, 16384)) return 3;
    if (pthread_create(&thread, &small, dial, NULL)) return 4;
    pthread_join(thread, NULL);
    printf("connect=%s\n", error ? strerrorname_np(error) : "OK");
    print_greeting(fd);
    return 0;
}
