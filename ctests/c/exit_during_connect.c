/* exit_during_connect ADDRESS PORT MICROSECONDS: exit() while other threads make the process's first connects. */
#include "address.h"
#include <pthread.h>

static struct address to;

static void *dial(void *unused) {
    (void)unused;
    for (;;) {
        int fd = socket(to.storage.ss_family, SOCK_STREAM, 0);
        connect(fd, (void *)&to.storage, to.length);
        close(fd);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    to = address_of(argv[1], argv[2]);
    pthread_t thread;
    for (int i = 0; i < 4; i++) pthread_create(&thread, NULL, dial, NULL);
    usleep(atoi(argv[3]));
    exit(0);
}
