/* sweeps_without_end ADDRESS PORT TIMES: after one visit a thread closes every descriptor from 3 up again and again while the main
 * thread connects; only descriptors that were closed may fail it. Then one visit in peace.
 * Prints "failed=N last=". */
#include "visit.h"
#include <pthread.h>
#include <stdatomic.h>

static atomic_int ending;

static void *sweep(void *unused) {
    while (!ending) closefrom(3);
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct address to = address_of(argv[1], argv[2]);
    char line[64];
    if (strncmp(visit(argv[1], argv[2], line), "greeter-", 8)) return 3;
    pthread_t sweeper;
    if (pthread_create(&sweeper, NULL, sweep, NULL)) return 1;
    int failed = 0;
    for (int i = atoi(argv[3]); i > 0; i--) {
        int fd = socket(to.storage.ss_family, SOCK_STREAM, 0);
        if (connect(fd, (void *)&to.storage, to.length)) failed += errno != EBADF && errno != ENOTSOCK;
    }
    ending = 1;
    pthread_join(sweeper, NULL);
    printf("failed=%d last=%s\n", failed, visit(argv[1], argv[2], line));
    return 0;
}
