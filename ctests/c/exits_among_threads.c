/* exits_among_threads NAME PORT THREADS: ends after the first hundred visits, with the threads in the middle of theirs. */
#include "visit.h"
#include <pthread.h>
#include <stdatomic.h>

static char **arguments;
static atomic_int visited;

static void *visits(void *unused) {
    for (;;) visited += reached(arguments[1], arguments[2]);
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    arguments = argv;
    alarm(20);
    for (int i = atoi(argv[3]); i > 0; i--) {
        pthread_t id;
        if (pthread_create(&id, NULL, visits, NULL)) return 1;
    }
    while (visited < 100) usleep(100);
    exit(0);
}
